"""Equations as MathML, by docutils' own translator: browsers draw it, and nothing is fetched."""

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer ``html_math_renderer = "mathml"``."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Draw an equation within a line."""
    translator.body.append(_translate(node))
    raise nodes.SkipNode


def block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Draw an equation of its own, wide ones behind a scroll bar."""
    equation = _translate(node, as_block=True)
    translator.body.append(f'<div class="math-wrapper docutils">{equation}</div>\n')
    raise nodes.SkipNode


def _translate(node: nodes.Element, as_block: bool = False) -> str:
    try:
        return latex2mathml.tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        getLogger(__name__).warning("no MathML for %r: %s", node.astext(), error, location=node)
        return ""
