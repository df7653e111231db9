"""Links from a page to a file or a folder of the repository that is no page: the site shows it, highlighted.

A page's links are those that work in a checkout and where the repository is hosted, relative to the page. Files of the
top folder that a page includes (CHANGELOG.md) keep theirs, relative to the top.
"""

import html
from collections.abc import Iterator
from pathlib import Path
from posixpath import join
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform

TOP = Path(__file__).parents[2]
INCLUDED = {"changelog": "CHANGELOG.md"}  # page -> the file of the top folder that it shows
LANGUAGES = {".py": "python", ".sh": "bash", ".json": "json", ".md": "markdown", ".toml": "toml"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the links and the pages that they lead to."""
    app.add_transform(RepositoryLinks)
    app.connect("missing-reference", resolve)
    app.connect("html-collect-pages", show)
    return {"parallel_read_safe": True, "parallel_write_safe": False}


class RepositoryLinks(SphinxTransform):
    """Find the file behind every link that Sphinx takes for no page; one that is not there is left for it to report."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Go over the links of a page."""
        page = self.env.docname
        folder = TOP if page in INCLUDED else (Path(self.env.srcdir) / page).parent
        for node in list(self.document.findall(lambda n: isinstance(n, nodes.Element) and n.get("reftype") == "myst")):
            path, _, anchor = node["reftarget"].partition("#")
            if node.get("refdomain") == "doc":  # a Markdown file, by its path within docs or by its full path
                if path in self.env.found_docs:
                    continue
                path = str(Path(self.env.srcdir) / f"{path}.md")
            target = (folder / path).resolve()
            if not path or not target.exists() or not target.is_relative_to(TOP):
                continue
            node.replace_self(self._link(node, target.relative_to(TOP).as_posix(), anchor))

    def _link(self, node: nodes.Element, path: str, anchor: str) -> addnodes.pending_xref:
        page = {file: name for name, file in INCLUDED.items()}.get(path)
        name = path.removeprefix("docs/").removesuffix(".md")
        if path == f"docs/{name}.md" and name in self.env.found_docs:
            page = name
        where = {"refdoc": self.env.docname, "refexplicit": True}
        if page is None:
            where |= {"refdomain": "", "reftype": "repository", "reftarget": path}
        else:
            where |= {"refdomain": "doc", "reftype": "myst", "reftarget": page, "reftargetid": anchor or None}
        return addnodes.pending_xref("", *(child.deepcopy() for child in node.children), **where)


def resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Lead to the site's view of a file; for a builder other than HTML, to the file."""
    if node.get("reftype") != "repository":
        return None
    path, page = node["reftarget"], node["refdoc"]
    if isinstance(app.builder, StandaloneHTMLBuilder):
        app.builder.__dict__.setdefault("shown", set()).add(path)
        uri = app.builder.get_relative_uri(page, join("source", path))
    else:
        uri = "../" * (page.count("/") + 1) + path
    return nodes.reference("", "", *node.children, refuri=uri, internal=True)


def show(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Make a page of every file that a page links, and of every folder, with what is in it."""
    waiting, done = sorted(app.builder.__dict__.get("shown", ())), set()
    while waiting:
        path = waiting.pop()
        if path in done:
            continue
        done.add(path)
        if (TOP / path).is_dir():
            entries = _entries(path)
            waiting += entries
            body = _list(app, path, entries)
        else:
            language = LANGUAGES.get(Path(path).suffix, "text")
            body = app.builder.highlighter.highlight_block((TOP / path).read_text(), language)
        title = html.escape(path)
        yield join("source", path), {"title": title, "body": f"<h1>{title}</h1>\n{body}"}, "page.html"


def _entries(path: str) -> list[str]:
    shown = (p for p in (TOP / path).iterdir() if p.suffix in LANGUAGES or (p.is_dir() and any(p.glob("*.py"))))
    return sorted(p.relative_to(TOP).as_posix() for p in shown)


def _list(app: Sphinx, path: str, entries: list[str]) -> str:
    page = join("source", path)
    links = ((app.builder.get_relative_uri(page, join("source", entry)), Path(entry).name) for entry in entries)
    items = (f'<li><a href="{uri}"><code>{name}</code></a></li>' for uri, name in links)
    return f"<ul>\n{''.join(items)}\n</ul>"
