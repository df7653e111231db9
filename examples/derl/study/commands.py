"""What each word of the command line needs trained, and what it reports."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from matplotlib.figure import Figure

from derl.report.tables import BEST_POSSIBLE
from derl.study import collapse, pictures, tables, transfer
from derl.study.cell import Cell, Variant
from derl.study.sheet import Sheet
from derl.study.variants import ABLATIONS, DERL, METHODS, OPTIONS, PAPER, ROBUST, TRAINED_AT, experts, trained_on
from derl.study.view import View


@dataclass(frozen=True)
class Command:
    """A table or a figure: the variants it reads, and how it is made of them."""

    variants: Iterable[Variant]
    sheets: Callable[[View], list[Sheet]] | None = None
    figures: Mapping[str, Callable[[View], Figure | None]] = field(default_factory=dict)
    always_valid: bool = False  # it reads one chosen epoch a seed, whatever the protocol

    def cells(self, seeds: int, synthetic: bool) -> list[Cell]:
        """What has to be run, seed by seed, so that a study broken off has whole tables of fewer seeds."""
        variants = [*self.variants, *([Variant({"model": BEST_POSSIBLE})] if synthetic else [])]
        return list(dict.fromkeys(variant.cell(seed) for seed in range(seeds) for variant in variants))


def commands(preset: str) -> dict[str, Command]:
    """Every command by its name, the paper's in its order, then the open question's."""
    methods = list(METHODS.values())
    return {
        "derl": Command([PAPER], tables.derl),
        "table1": Command(methods, tables.table1),
        "table2": Command(methods, tables.table2),
        "table3": Command(ABLATIONS.values(), tables.table3),
        "table4": Command(ABLATIONS.values(), tables.table4),
        "table5": Command([PAPER, *TRAINED_AT.values()], tables.table5, always_valid=True),
        "table6": Command(methods, tables.table6),
        "figure2": Command(methods, figures={"figure2": pictures.figure2}),
        "figure3": Command(
            list(experts(preset).values()),
            partial(tables.experts_table, preset=preset),
            {"figure3": partial(pictures.figure3, preset=preset)},
        ),
        "figure4": Command([PAPER], figures={"figure4": pictures.figure4}, always_valid=True),
        "recipes": Command([METHODS[DERL], METHODS[ROBUST]], collapse.recipes, {"recipes": pictures.recipes}, True),
        "patterns": Command(trained_on().values(), transfer.patterns, {"patterns": pictures.pattern_matrix}, True),
        "options": Command(OPTIONS.values(), tables.options),
    }
