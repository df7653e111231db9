"""Boxes, arrows and strips of frames as SVG that reads in light and dark."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

STYLE = """
text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); text-anchor: middle }
.small { font-size: 11px; fill: var(--faint) }
.left { text-anchor: start }
.right { text-anchor: end }
.strong { font-weight: 600 }
rect { fill: var(--plain); stroke: var(--line); stroke-width: 1.2 }
.private { fill: var(--private); stroke: var(--private-line) }
.shared { fill: var(--shared); stroke: var(--shared-line) }
.router { fill: var(--router); stroke: var(--router-line) }
.group { fill: none; stroke-dasharray: 4 4 }
.arrow { fill: none; stroke: var(--faint); stroke-width: 1.4 }
.dashed { stroke-dasharray: 4 3 }
.tip { fill: var(--faint); stroke: none }
.kept { fill: var(--private-line) }
.dropped { fill: var(--gone) }
svg { --ink: #1f2328; --faint: #5b646e; --line: #8c959f; --plain: #f3f4f6; --gone: #e2e5e9;
  --private: #dbeafe; --private-line: #2563eb; --shared: #dcfce7; --shared-line: #15803d;
  --router: #fef3c7; --router-line: #b45309 }
@media (prefers-color-scheme: dark) { svg { --ink: #e6edf3; --faint: #a3adb8; --line: #768390; --plain: #22272e;
  --gone: #373e47; --private: #1e3a5f; --private-line: #6ea8fe; --shared: #173f2a; --shared-line: #5bd08a;
  --router: #4a3512; --router-line: #f0b64d } }
"""
LINE = 16


class Canvas:
    """A picture of a given size, in pixels from the upper left corner; ``title`` says to a screen reader what it is."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []

    def text(self, x: float, y: float, text: str, kind: str = "") -> None:
        """Write a line whose middle (or, for ``left`` and ``right``, whose end) is at x."""
        self.parts.append(f'<text x="{x:g}" y="{y + 4.5:g}" class="{kind}">{escape(text)}</text>')

    def box(self, x: float, y: float, width: float, height: float, *lines: str, kind: str = "") -> None:
        """Draw a box with lines of text in its middle; all but the first are small."""
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" class="{kind}"/>')
        top = y + height / 2 - LINE * (len(lines) - 1) / 2
        for number, line in enumerate(lines):
            self.text(x + width / 2, top + LINE * number, line, "small" if number else "")

    def group(self, x: float, y: float, width: float, height: float, label: str) -> None:
        """Draw a dashed frame, named at its upper left corner."""
        self.box(x, y, width, height, kind="group")
        self.text(x + 8, y + 12, label, "small left")

    def arrow(self, *points: tuple[float, float], kind: str = "") -> None:
        """Draw a line through the points with a tip at the last."""
        (x0, y0), (x, y) = points[-2:]
        length = ((x - x0) ** 2 + (y - y0) ** 2) ** 0.5
        dx, dy = (x - x0) / length, (y - y0) / length
        line = " L".join(f"{px:g} {py:g}" for px, py in (*points[:-1], (x - 6 * dx, y - 6 * dy)))
        sides = [(x - 8 * dx + 4 * side * dy, y - 8 * dy - 4 * side * dx) for side in (1, -1)]
        tip = " L".join(f"{px:.4g} {py:.4g}" for px, py in ((x, y), *sides))
        self.parts.append(f'<path class="arrow {kind}" d="M{line}"/><path class="tip" d="M{tip}Z"/>')

    def strip(self, x: float, y: float, width: float, height: float, keep: Sequence[bool]) -> None:
        """Draw frames in a row: full where they are kept, pale where they are dropped."""
        step = width / len(keep)
        for kind, state in (("kept", True), ("dropped", False)):
            frames = [
                f"M{x + step * n:.4g} {y:g}h{step - 1.5:.3g}v{height:g}h-{step - 1.5:.3g}z"
                for n, kept in enumerate(keep)
                if kept is state
            ]
            self.parts.append(f'<path class="{kind}" d="{"".join(frames)}"/>')

    def save(self, path: Path) -> None:
        """Write the picture."""
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img"><title>{escape(self.title)}</title><style>{STYLE}</style>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )
