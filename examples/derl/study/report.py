"""A report of a study: its variants, its tables and figures, and the files it writes."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

from derl.data.files import write_file
from derl.evaluate.protocol import BEST_POSSIBLE
from derl.report.write import print_table
from derl.study.cells import Cell, Variant
from derl.study.sheet import Sheet
from derl.study.statistics import PROTOCOLS
from derl.study.view import View


@dataclass(frozen=True)
class Report:
    """The tables and figures of one word of the command line.

    Attributes:
        variants: variants that the tables and figures show.
        sheets: makes the tables.
        figures: file name -> function that draws the figure, or returns None if there is nothing to draw yet.
        always_valid: uses protocol "valid", one selected epoch per seed, regardless of the requested protocol.
    """

    variants: Iterable[Variant]
    sheets: Callable[[View], list[Sheet]] | None = None
    figures: Mapping[str, Callable[[View], Figure | None]] = field(default_factory=dict)
    always_valid: bool = False

    def cells(self, seeds: int, synthetic: bool) -> list[Cell]:
        """Return the cells, seed by seed, so that an interrupted study has complete tables of fewer seeds."""
        variants = [*self.variants, *([Variant({"model": BEST_POSSIBLE})] if synthetic else [])]
        return list(dict.fromkeys(variant.cell(seed) for seed in range(seeds) for variant in variants))

    def write(self, name: str, view: View, console: Console) -> None:
        """Print the report, and write Markdown, LaTeX, CSV, PNG and SVG into the protocol's folder."""
        asked = view.protocol
        folder = view.ledger.folder / asked
        if self.always_valid:
            view = View(view.ledger, view.seeds, "valid", view.options, view.methods)
        sheets = [] if self.sheets is None else self.sheets(view)
        figures = {title: draw(view) for title, draw in self.figures.items()}
        missing = [cell.key for cell in view.ledger.missing(self.cells(view.seeds, view.synthetic))]
        folder.mkdir(exist_ok=True)
        for sheet in sheets:
            if (sheet.protocol or view.protocol) != asked:
                sheet.table.title += f" (protocol {sheet.protocol or view.protocol})"
            sheet.caption = " ".join([*_facts(view, missing, sheet.protocol), sheet.caption, sheet.note]).strip()
            _write_sheet(sheet, view.protocol, folder, console)
        for title, figure in figures.items():
            caption = None if sheets else " ".join(_facts(view, missing))
            _write_figure(title, figure, _heading(view, missing), caption, folder, console)
        console.print(Text(" ".join([f"{name}.", *_facts(view, missing)]), style="bold" if missing else ""))
        console.print()


def _write_sheet(sheet: Sheet, protocol: str, folder: Path, console: Console) -> None:
    if not sheet.is_long:
        print_table(console, sheet.table)
        if sheet.note:
            console.print(Text(sheet.note), end="\n\n")
    for row in sheet.data:
        row["protocol"] = sheet.protocol or protocol
    for suffix, text in (("md", sheet.markdown()), ("tex", sheet.latex()), ("csv", sheet.csv())):
        write_file(folder / f"{sheet.name}.{suffix}", text.encode())


def _write_figure(
    title: str, figure: Figure | None, heading: str, caption: str | None, folder: Path, console: Console
) -> None:
    """Write a figure, with a caption if no table has one. If there is none, remove the figure of an earlier report."""
    if figure is None:
        for suffix in ("png", "svg", "md"):
            (folder / f"{title}.{suffix}").unlink(missing_ok=True)
        console.print(Text(f"{title}: nothing to draw yet"))
        return
    figure.suptitle(heading, fontsize=10)
    with mpl.rc_context({"svg.hashsalt": title}):  # makes the file reproducible
        for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            picture = io.BytesIO()
            figure.savefig(picture, format=suffix, dpi=150, metadata=metadata)
            write_file(folder / f"{title}.{suffix}", picture.getvalue())
    if caption is not None:
        write_file(folder / f"{title}.md", f"![{title}]({title}.png)\n\n{caption}\n".encode())
    console.print(Text(f"{title}: {folder / title}.png and .svg", overflow="fold"))


def _heading(view: View, missing: Sequence[str]) -> str:
    data = "synthetic MOSI (not real data)" if view.synthetic else Path(view.options.data or "").name
    text = f"{data.replace('$', chr(92) + '$')}, {_seeds(view)}, protocol {view.protocol}"
    return f"{text}, INCOMPLETE: {len(missing)} cells are missing" if missing else text


def _facts(view: View, missing: Sequence[str], protocol: str | None = None) -> list[str]:
    lines = []
    record = view.any_record()
    if record is not None:
        data = record.facts["data"]
        sizes = ", ".join(f"{size} {name}" for name, size in data["sizes"].items())
        encoder = view.options.text_encoder if "text" in record.facts["modalities"] else None
        named = "" if encoder is None else f", text encoder {Path(encoder).name}"
        lines.append(f"Data: {data['name']} ({', '.join(record.facts['modalities'])}; {sizes} samples){named}.")
        if data["synthetic"]:
            lines.append("The data is SYNTHETIC: these figures are not about real sentiment.")
        options = record.facts["options"]
        rates = f"learning rate {options['learning_rate']:g}, text encoder's {options['text_learning_rate']:g}"
        lines.append(f"{view.options.epochs} epochs, {rates}. Machine: {record.facts['machine']}.")
    lines.append(f"{PROTOCOLS[protocol or view.protocol]}; mean ± standard deviation over {_seeds(view)}.")
    if missing:
        lines.append(f"INCOMPLETE. Missing cells: {', '.join(missing)}.")
    return lines


def _seeds(view: View) -> str:
    return f"{view.seeds} seed{'s' if view.seeds > 1 else ''}"
