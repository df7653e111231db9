"""Every public name in code font leads to its entry in the API reference, and types to where they are exported."""

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

import modx

PREFIXES = ("", "modx.", "modx.losses.", "modx.missing.", "modx.metrics.", "modx.ops.")


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the links to pages and signatures."""
    app.add_post_transform(NameLinks)
    app.connect("missing-reference", find_export)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class NameLinks(SphinxPostTransform):
    """Make ``ModalityRouter`` or ``modx.missing.drop`` a link; on other pages and in other renderers it stays code."""

    default_priority = 200
    formats = ("html",)

    def run(self) -> None:
        """Go over the literals of a page."""
        objects = self.env.domains.python_domain.objects
        for node in list(self.document.findall(nodes.literal)):
            if isinstance(node.parent, (nodes.reference, nodes.title)):
                continue
            text = node.astext().removesuffix("()")
            name = next((prefix + text for prefix in PREFIXES if prefix + text in objects), None)
            if name is None or not name.startswith("modx."):
                continue
            entry = objects[name]
            link = make_refnode(self.app.builder, self.env.docname, entry.docname, entry.node_id, node.deepcopy(), name)
            node.replace_self(link)


def find_export(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Resolve a type of a private module, such as modx.fusion.Fused, by its public name, modx.Fused."""
    target = str(node.get("reftarget", ""))
    exported = f"modx.{target.rsplit('.', 1)[-1]}"
    entry = env.domains.python_domain.objects.get(exported)
    if node.get("refdomain") != "py" or not target.startswith(f"{modx.__name__}.") or entry is None:
        return None
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, exported)
