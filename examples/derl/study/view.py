"""The results of a study for its reports: rows of metrics, or None where cells are missing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache

import torch

from derl.evaluate.protocol import BEST_POSSIBLE, average
from derl.evaluate.sentiment import SENTIMENT
from derl.evaluate.task import Metrics
from derl.study.cells import FILLED_IN, METHODS, Cell, Variant
from derl.study.ledger import Ledger, Record, RecordError
from derl.study.statistics import Statistics, cell_metrics
from derl.train.options import Options


class View:
    """Metrics of a study's finished cells; None where a cell is missing.

    Args:
        ledger: the study's ledger.
        seeds: number of seeds per row, counted from 0.
        protocol: "valid" or "paper".
        options: options that all cells share.
        methods: rows of the tables of methods, by label.
    """

    def __init__(
        self,
        ledger: Ledger,
        seeds: int,
        protocol: str,
        options: Options,
        methods: Mapping[str, Variant] = METHODS,
    ) -> None:
        self.ledger, self.seeds, self.protocol, self.options = ledger, seeds, protocol, options
        self.methods = methods
        self.synthetic = (
            options.data is None and options.text_encoder is None
        )  # then the best possible predictor is known
        self._load = cache(self._checked)
        self._figures = cache(self._compute_figures)

    def cells(self, variant: Variant) -> list[Cell]:
        """Return the cells of a variant."""
        return [variant.cell(seed) for seed in range(self.seeds)]

    def records(self, variant: Variant) -> list[Record] | None:
        """Return the records of all seeds, or None if one is missing."""
        cells = self.cells(variant)
        return None if self.ledger.missing(cells) else [self._load(cell) for cell in cells]

    def rows(self, variant: Variant, conditions: Sequence[str], split: str = "test") -> list[Statistics] | None:
        """Return metrics under each condition."""
        if self.records(variant) is None:
            return None
        seeds = [self._figures(cell, tuple(conditions), split) for cell in self.cells(variant)]
        return [Statistics([seed[index] for seed in seeds]) for index in range(len(conditions))]

    def average(self, variant: Variant, conditions: Sequence[str], split: str = "test") -> Statistics | None:
        """Return metrics averaged over conditions."""
        return _averaged(self.rows(variant, conditions, split))

    def best(self, conditions: Sequence[str]) -> list[Statistics] | None:
        """Return the best possible predictor's metrics under each condition, or None if it is unknown."""
        if not self.synthetic:
            return None
        records = self.records(Variant({"model": BEST_POSSIBLE}))
        if records is None or any({*conditions} - record.facts["best_possible"].keys() for record in records):
            return None
        return [Statistics([record.facts["best_possible"][name] for record in records]) for name in conditions]

    def best_average(self, conditions: Sequence[str]) -> Statistics | None:
        """Return the best possible predictor's metrics averaged over conditions."""
        return _averaged(self.best(conditions))

    def constants(self, record: Record) -> dict[str, Metrics]:
        """Return metrics of the constant predictors."""
        labels = torch.from_numpy(record.arrays["labels_test"])
        answers = SENTIMENT.constants(torch.from_numpy(record.arrays["labels_train"]))
        return {name: SENTIMENT.measure_constant(answer, labels) for name, answer in answers.items()}

    def pattern_rows(self, variant: Variant, conditions: Sequence[str]) -> list[Statistics] | None:
        """Return metrics of the selected epoch under other patterns' conditions, or None if a record lacks one."""
        records = self.records(variant)
        if records is None or any({*conditions} - {*record.facts["pattern_conditions"]} for record in records):
            return None
        found = []
        for name in conditions:
            index = records[0].facts["pattern_conditions"].index(name)
            found.append(
                Statistics(
                    [
                        SENTIMENT.measure(
                            torch.from_numpy(record.arrays["patterns"][index]),
                            torch.from_numpy(record.arrays["labels_test"]),
                        )
                        for record in records
                    ]
                )
            )
        return found

    def diagnostics(self, variant: Variant, condition: str) -> list[dict[str, float]]:
        """Return the diagnostics (``derl.evaluate.diagnostics``) of each seed's selected epoch."""
        return [record.facts["diagnostics"][condition] for record in self.records(variant) or []]

    def any_record(self) -> Record | None:
        """Return any finished training, for what all have in common."""
        for path in self.ledger.finished():
            record = Record.load(path)
            if record.arrays:
                return record
        return None

    def check(self, cells: Sequence[Cell]) -> None:
        """Refuse records that cannot be read or that another version of a recipe made.

        Raises:
            RecordError: Some records are refused; the message names all of them.
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
        """Return a cell's record; refuse it if the recipe has changed since."""
        record = self.ledger.record(cell)
        if not cell.is_best_possible:
            today = asdict(cell.options(self.options))
            for name, value in record.facts["options"].items():
                if name in FILLED_IN and value != today[name]:
                    raise RecordError(
                        f"{self.ledger.path(cell)}: expected {name} = {today[name]}, as recipe {today['recipe']} says, "
                        f"found {value}; delete the file to run the cell again."
                    )
        return record

    def _compute_figures(self, cell: Cell, conditions: tuple[str, ...], split: str) -> list[Metrics]:
        return cell_metrics(self._load(cell), conditions, self.protocol, split)


def _averaged(rows: list[Statistics] | None) -> Statistics | None:
    """Average metrics over conditions, seed by seed."""
    if rows is None:
        return None
    return Statistics([average(seed) for seed in zip(*(row.seeds for row in rows), strict=True)])
