"""A study as its reports see it: rows of figures, or what is missing for them."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache

import torch

from derl.evaluate.protocol import BEST_POSSIBLE, average, constants, measure
from derl.evaluate.scores import Metrics
from derl.study.cells import FILLED_IN, Cell, Variant
from derl.study.ledger import Ledger, Record, RecordError
from derl.study.statistics import Statistics, cell_metrics
from derl.train.options import Options


class View:
    """Figures of a study's finished cells; a figure that needs one that is not there is None.

    Args:
        ledger: of the study.
        seeds: how many each row has: 0, 1 ..
        protocol: "valid" or "paper".
        options: that all its cells share.
    """

    def __init__(self, ledger: Ledger, seeds: int, protocol: str, options: Options) -> None:
        self.ledger, self.seeds, self.protocol, self.options = ledger, seeds, protocol, options
        self.synthetic = options.data is None and options.text_encoder is None  # the best possible predictor is known
        self._load = cache(self._checked)
        self._figures = cache(self._compute_figures)

    def cells(self, variant: Variant) -> list[Cell]:
        """A variant's trainings."""
        return [variant.cell(seed) for seed in range(self.seeds)]

    def records(self, variant: Variant) -> list[Record] | None:
        """Those of all seeds; None if one is missing."""
        cells = self.cells(variant)
        return None if self.ledger.missing(cells) else [self._load(cell) for cell in cells]

    def rows(self, variant: Variant, conditions: Sequence[str], split: str = "test") -> list[Statistics] | None:
        """Figures under each condition."""
        if self.records(variant) is None:
            return None
        seeds = [self._figures(cell, tuple(conditions), split) for cell in self.cells(variant)]
        return [Statistics([seed[index] for seed in seeds]) for index in range(len(conditions))]

    def average(self, variant: Variant, conditions: Sequence[str], split: str = "test") -> Statistics | None:
        """Figures averaged over conditions."""
        rows = self.rows(variant, conditions, split)
        if rows is None:
            return None
        return Statistics([average([row.seeds[seed] for row in rows]) for seed in range(self.seeds)])

    def best(self, conditions: Sequence[str]) -> list[Statistics] | None:
        """The best possible predictor's figures under each condition; None where it is not known."""
        if not self.synthetic:
            return None
        records = self.records(Variant({"model": BEST_POSSIBLE}))
        if records is None or any({*conditions} - record.facts["best_possible"].keys() for record in records):
            return None
        return [Statistics([record.facts["best_possible"][name] for record in records]) for name in conditions]

    def best_average(self, conditions: Sequence[str]) -> Statistics | None:
        """The same, averaged over conditions."""
        rows = self.best(conditions)
        if rows is None:
            return None
        return Statistics([average([row.seeds[seed] for row in rows]) for seed in range(self.seeds)])

    def constants(self, record: Record) -> dict[str, Metrics]:
        """Figures of the constant predictors."""
        labels = torch.from_numpy(record.arrays["labels_test"])
        values = constants(torch.from_numpy(record.arrays["labels_train"]))
        return {name: measure(torch.full_like(labels, value), labels) for name, value in values.items()}

    def pattern_rows(self, variant: Variant, conditions: Sequence[str]) -> list[Statistics] | None:
        """Figures of the chosen epoch under conditions of other patterns; None where a record lacks one."""
        records = self.records(variant)
        if records is None or any({*conditions} - {*record.facts["pattern_conditions"]} for record in records):
            return None
        found = []
        for name in conditions:
            index = records[0].facts["pattern_conditions"].index(name)
            found.append(
                Statistics(
                    [
                        measure(
                            torch.from_numpy(record.arrays["patterns"][index]),
                            torch.from_numpy(record.arrays["labels_test"]),
                        )
                        for record in records
                    ]
                )
            )
        return found

    def diagnostics(self, variant: Variant, condition: str) -> list[dict[str, float]]:
        """What `derl.evaluate.diagnostics` says of each seed's chosen epoch."""
        return [record.facts["diagnostics"][condition] for record in self.records(variant) or []]

    def any_record(self) -> Record | None:
        """Some finished training, for what all have in common."""
        for path in self.ledger.finished():
            record = Record.load(path)
            if record.arrays:
                return record
        return None

    def check(self, cells: Sequence[Cell]) -> None:
        """Refuse to go on with records that cannot be read or are of another recipe.

        Raises:
            RecordError: names all of them.
        """
        complaints = []
        for cell in cells:
            if self.ledger.is_done(cell):
                try:
                    self._load(cell)
                except RecordError as error:
                    complaints.append(str(error))
        if complaints:
            raise RecordError("\n".join(complaints))

    def _checked(self, cell: Cell) -> Record:
        """A cell's record, unless it was trained by what a recipe said once and says no more."""
        record = self.ledger.record(cell)
        if not cell.is_best_possible:
            today = asdict(cell.options(self.options))
            for name, value in record.facts["options"].items():
                if name in FILLED_IN and value != today[name]:
                    raise RecordError(
                        f"{self.ledger.path(cell)}: expected {name} = {today[name]}, as recipe {today['recipe']} says, "
                        f"found {value}; delete the file, and its cell is run again."
                    )
        return record

    def _compute_figures(self, cell: Cell, conditions: tuple[str, ...], split: str) -> list[Metrics]:
        return cell_metrics(self._load(cell), conditions, self.protocol, split)
