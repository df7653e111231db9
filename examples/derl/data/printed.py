"""The numbers printed in the paper's Tables 1 to 6 and A.7, from ``printed.json``."""

import json
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

PRINTED: dict[str, Any] = json.loads(Path(__file__).with_name("printed.json").read_text())
DATA_SETS = {"mosi": "MOSI", "mosei": "MOSEI"}  # preset -> data set


def printed_rows(table: str, data_set: str) -> dict[str, dict[str, float]]:
    """Return a table's rows by name, each column -> printed number; empty if the table lacks the data set.

    Example:
        >>> printed_rows("Table 6", "MOSI")["DERL"]["seconds per epoch"]
        7.29
    """
    columns = PRINTED[table]["columns"]
    return {row: dict(zip(columns, numbers, strict=True)) for row, numbers in PRINTED[table].get(data_set, {}).items()}


def in_shares(numbers: Mapping[str, float]) -> dict[str, float]:
    """Convert the accuracies and F1 scores of a printed row from percent to fractions.

    Example:
        >>> in_shares({"mae": 1.038, "acc7": 34.5})
        {'mae': 1.038, 'acc7': 0.345}
    """
    return {name: number / 100 if name.startswith(("acc", "f1")) else number for name, number in numbers.items()}


def printed_mean(numbers: Sequence[float]) -> float:
    """Return the mean of printed numbers to two digits, halves rounded up, as the paper rounds.

    Example:
        >>> printed_mean([80.91, 58.70, 65.07, 83.58, 84.73, 70.02])  # exactly 73.835
        73.84
    """
    total = sum((Decimal(str(number)) for number in numbers), Decimal(0))
    return float((total / len(numbers)).quantize(Decimal("0.01"), ROUND_HALF_UP))
