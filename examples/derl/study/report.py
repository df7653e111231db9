"""Write what a command reports into the study folder, and print it."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

from derl.data.files import write_file
from derl.report.write import print_table
from derl.study.commands import Command
from derl.study.judge import PROTOCOLS
from derl.study.view import View


def write(name: str, command: Command, view: View, console: Console) -> None:
    """Print one command's report and write it: Markdown, LaTeX and CSV, PNG and SVG, in a folder of the protocol."""
    folder = view.ledger.folder / view.protocol
    if command.always_valid:
        view = View(view.ledger, view.seeds, "valid", view.options)
    sheets = [] if command.sheets is None else command.sheets(view)
    figures = {title: draw(view) for title, draw in command.figures.items()}
    missing = [cell.key for cell in view.ledger.missing(command.cells(view.seeds, view.synthetic))]
    folder.mkdir(exist_ok=True)
    for sheet in sheets:
        sheet.caption = " ".join([*_lines(view, missing, sheet.protocol), sheet.caption, sheet.note]).strip()
        if not sheet.is_long:
            print_table(console, sheet.table)
            if sheet.note:
                console.print(Text(sheet.note), end="\n\n")
        for row in sheet.data:
            row["protocol"] = sheet.protocol or view.protocol
        for suffix, text in (("md", sheet.markdown()), ("tex", sheet.latex()), ("csv", sheet.csv())):
            write_file(folder / f"{sheet.name}.{suffix}", text.encode())
    for title, figure in figures.items():
        if figure is None:
            for suffix in ("png", "svg", "md"):  # of a time when there was something to draw
                (folder / f"{title}.{suffix}").unlink(missing_ok=True)
            console.print(Text(f"{title}: nothing to draw yet"))
            continue
        figure.suptitle(_heading(view, missing), fontsize=10)
        _draw(figure, folder / title)
        if not sheets:
            text = f"![{title}]({title}.png)\n\n{' '.join(_lines(view, missing))}\n"
            write_file(folder / f"{title}.md", text.encode())
        console.print(Text(f"{title}: {folder / title}.png and .svg", overflow="fold"))
    console.print(Text(" ".join([f"{name}.", *_lines(view, missing)]), style="bold" if missing else ""))
    console.print()


def _heading(view: View, missing: Sequence[str]) -> str:
    data = "synthetic MOSI (not real sentiment)" if view.synthetic else Path(view.options.data or "").name
    text = f"{data.replace('$', chr(92) + '$')}, {_seeds(view)}, protocol {view.protocol}"
    return f"{text}, INCOMPLETE: {len(missing)} cells are missing" if missing else text


def _lines(view: View, missing: Sequence[str], protocol: str | None = None) -> list[str]:
    lines = []
    record = view.any_record()
    if record is not None:
        data = record.facts["data"]
        sizes = ", ".join(f"{size} {name}" for name, size in data["sizes"].items())
        encoder = view.options.text_encoder if "text" in record.facts["modalities"] else None
        named = "" if encoder is None else f", text encoder {Path(encoder).name}"
        lines.append(f"Data: {data['name']} ({', '.join(record.facts['modalities'])}; {sizes} samples){named}.")
        if data["synthetic"]:
            lines.append("The data is SYNTHETIC: these figures say nothing of real sentiment.")
        options = record.facts["options"]
        rates = f"learning rate {options['learning_rate']:g}, of the text encoder {options['text_learning_rate']:g}"
        lines.append(f"{view.options.epochs} epochs, {rates}; {record.facts['machine']}.")
    lines.append(f"{PROTOCOLS[protocol or view.protocol]}; mean ± standard deviation over {_seeds(view)}.")
    if missing:
        lines.append(f"INCOMPLETE, and nothing is filled in: {', '.join(missing)}.")
    return lines


def _seeds(view: View) -> str:
    return f"{view.seeds} seed{'s' if view.seeds > 1 else ''}"


def _draw(figure: Figure, path: Path) -> None:
    with mpl.rc_context({"svg.hashsalt": path.name}):  # the same picture gives the same file
        for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            picture = io.BytesIO()
            figure.savefig(picture, format=suffix, dpi=150, metadata=metadata)
            write_file(path.with_name(f"{path.name}.{suffix}"), picture.getvalue())
