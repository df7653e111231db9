"""Plot the benchmarks' results: ``python benchmarks/plots.py FOLDER``.

- speed_up.png: speedup of "modx" over the number of tokens, per width.
- crossover.png: speedup over the width, at the largest number of tokens that all widths have.
- memory.png: bytes kept for the backward pass.
- growth.png: cost over the size that grows.

Dry runs are only plotted with ``--dry_run``, and are marked as such.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

COLORS = {
    "wide": "#7f7f7f",
    "loop": "#1f77b4",
    "graphed loop": "#17becf",
    "grouped": "#9467bd",
    "compiled wide": "#d62728",
    "compiled loop": "#ff7f0e",
    "modx": "#2ca02c",
    "modx, least memory": "#006400",
}
PASSES = {"forward": "forward", "step": "forward + backward"}
Results = dict[str, Any]


def speed_up(results: Results) -> Figure | None:
    """Plot speedups: a column of panels per width, a row per pass, and a line with a quartile band per provider."""
    chosen = _plain(results)
    widths = sorted({result["problem"]["dim"] for result in chosen})
    if not widths:
        return None
    figure, panels = plt.subplots(
        2, len(widths), figsize=(3.1 * len(widths) + 1, 6.4), sharey="row", sharex=True, squeeze=False
    )
    for row, kind in zip(panels, PASSES, strict=True):
        for axes, width in zip(row, widths, strict=True):
            of_width = sorted((r for r in chosen if r["problem"]["dim"] == width), key=lambda r: r["problem"]["tokens"])
            _lines(axes, of_width, kind, "tokens")
            axes.set_title(f"D = {width}, {PASSES[kind]}", fontsize=9)
        row[0].set_ylabel("times faster than")
    for axes in panels[-1]:
        axes.set_xlabel("tokens T")
    return _finish(
        figure,
        results,
        "modx against other ways to compute the expert mixture;\nat few tokens the launches count too",
    )


def crossover(results: Results) -> Figure | None:
    """Plot speedups over the width, at the largest number of tokens that all widths have."""
    chosen = _plain(results)
    widths = {result["problem"]["dim"] for result in chosen}
    everywhere = [
        tokens
        for tokens in {result["problem"]["tokens"] for result in chosen}
        if {result["problem"]["dim"] for result in chosen if result["problem"]["tokens"] == tokens} == widths
    ]
    if len(widths) < 2 or not everywhere:
        return None
    tokens = max(everywhere)
    at = sorted((r for r in chosen if r["problem"]["tokens"] == tokens), key=lambda r: r["problem"]["dim"])
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True)
    for axes, kind in zip(panels, PASSES, strict=True):
        _lines(axes, at, kind, "dim")
        axes.set_title(PASSES[kind], fontsize=9)
        axes.set_xlabel("width D")
    panels[0].set_ylabel("times faster than")
    return _finish(figure, results, f"modx over the width, T = {tokens}")


def memory(results: Results) -> Figure | None:
    """Plot bytes kept between forward and backward, one line per provider, at the largest number of tokens."""
    chosen = [r for r in _plain(results) if any(p.get("kept_bytes") for p in r["providers"].values())]
    if not chosen:
        return None
    largest = {}
    for result in sorted(chosen, key=lambda r: r["problem"]["tokens"]):
        largest[result["problem"]["dim"]] = result
    widths = sorted(largest)
    names = [n for n in COLORS if any(largest[w]["providers"].get(n, {}).get("kept_bytes") for w in widths)]
    figure, axes = plt.subplots(figsize=(1.8 * len(widths) + 3, 4.4))
    for name in names:
        heights = [
            (largest[width]["providers"].get(name, {}).get("kept_bytes") or float("nan")) / 2**20 for width in widths
        ]
        axes.plot(range(len(widths)), heights, marker="o", color=COLORS[name], label=name)
    axes.set_yscale("log", base=2)
    axes.set_xticks(range(len(widths)), [f"D = {w}\nT = {largest[w]['problem']['tokens']}" for w in widths])
    axes.set_ylabel("MiB kept for the backward pass")
    axes.grid(axis="y", alpha=0.3)
    return _finish(figure, results, "Activation memory")


def growth(results: Results) -> Figure | None:
    """Plot time and memory relative to the smallest size, over the growth factor of the size."""
    parts = [part for part in results["growth"] if len(part["sizes"]) > 1]
    if not parts:
        return None
    figure, panels = plt.subplots(1, 2, figsize=(10, 5.6), sharex=True, sharey=True)
    fits = ("time_fit", "memory_fit")
    for axes, what, which in zip(panels, ("time", "memory"), fits, strict=True):
        for index, part in enumerate(parts):
            costs = [each["median"] for each in part["seconds"]] if what == "time" else part["bytes"]
            x = [size / part["sizes"][0] for size in part["sizes"]]
            y = [cost / costs[0] for cost in costs]
            label = f"{part['subject']}, {part['axis']}: p = {part[which]['exponent']:.2f}"
            axes.plot(
                x, y, marker="o" if part["subject"] == "op" else "s", markersize=4, color=f"C{index}", label=label
            )
        most = max(part["sizes"][-1] / part["sizes"][0] for part in parts)
        axes.plot([1, most], [1, most], "--", color="black", linewidth=1, label="proportional, p = 1")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xlabel("times the smallest size")
        axes.set_title(what if what == "time" else f"memory: {results['memory']}", fontsize=9)
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=2)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("times the smallest size's cost")
    return _finish(figure, results, "Cost of a step, one thing grown at a time", legend=False)


def _plain(results: Results) -> list[Results]:
    """Select the results of the sweep over T and D, in its most frequent dtype, without other splits and widths."""
    kept = [
        result
        for result in results["results"]
        if result["speed_up"].get("forward")
        and result["problem"]["hidden_dim"] == 2 * result["problem"]["dim"]
        and (result["problem"]["num_groups"], result["problem"]["num_private"], result["problem"]["num_shared"])
        == (3, 1, 3)
    ]
    dtypes = [result["problem"]["dtype"] for result in kept]
    return [result for result in kept if result["problem"]["dtype"] == max(dtypes, key=dtypes.count)]


def _lines(axes: Axes, chosen: list[Results], kind: str, along: str) -> None:
    for name, color in COLORS.items():
        points = [
            (r["problem"][along], r["speed_up"][kind][name]) for r in chosen if name in r["speed_up"].get(kind, {})
        ]
        if name.startswith("modx") or not points:
            continue
        x = [size for size, _ in points]
        axes.plot(x, [ratio["median"] for _, ratio in points], marker="o", markersize=3, color=color, label=name)
        low, high = ([ratio["quartiles"][end] for _, ratio in points] for end in (0, 1))
        axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    axes.axhline(1.0, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(alpha=0.3)


def _finish(figure: Figure, results: Results, title: str, legend: bool = True) -> Figure:
    """Add a title above, and one legend and the conditions below."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    machine = results["machine"]
    dtypes = sorted({result["problem"]["dtype"] for result in _plain(results)}) if "results" in results else []
    caption = (
        f"{machine['gpu'] or machine['cpu']}, {', '.join(dtypes) or results['dtype']}; torch {results['torch']}, "
        f"Triton {results['triton']}; commit {results['commit']}"
    )
    figure.suptitle(title, fontsize=11)
    figure.tight_layout(rect=(0, 0.12 if legend else 0.05, 1, 1))
    if legend:
        figure.legend(
            handles.values(), handles.keys(), loc="lower center", bbox_to_anchor=(0.5, 0.045), ncol=8, fontsize=8
        )
    figure.text(0.5, 0.012, caption, ha="center", fontsize=7)
    if results["dry_run"]:
        words = "dry run: figures mean nothing"
        figure.text(0.5, 0.5, words, ha="center", va="center", fontsize=24, color="red", alpha=0.35, rotation=20)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="has expert_mixture_gpu.json, growth.json or both; figures go there")
    parser.add_argument("--dry_run", action="store_true", help="draw a dry run too, marked as one")
    options = parser.parse_args()
    figures = {"expert_mixture_gpu.json": (speed_up, crossover, memory), "growth.json": (growth,)}
    for file, draws in figures.items():
        if not (options.folder / file).exists():
            print(f"no {file}: its figures are not drawn")
            continue
        results = json.loads((options.folder / file).read_text())
        if results["dry_run"] and not options.dry_run:
            print(f"{file} is of a dry run: its figures are not drawn")
            continue
        for draw in draws:
            figure = draw(results)
            if figure is None:
                print(f"{draw.__name__}: nothing was measured to draw")
                continue
            figure.savefig(options.folder / f"{draw.__name__}.png", dpi=150)
            plt.close(figure)
            print(f"{draw.__name__}.png")


if __name__ == "__main__":
    main()
