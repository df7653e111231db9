"""The conditions under which a model is tested: how test input goes missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from modx.missing import PATTERNS

RATES = tuple(rate / 10 for rate in range(10))
PATTERN_RATES = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Condition:
    """One way in which test input goes missing: by a pattern at a rate, or all but the available modalities."""

    name: str
    rate: float | None = None
    available: tuple[str, ...] | None = None
    pattern: str = "frames"


def intra_modal(pattern: str = "frames") -> list[Condition]:
    """Input missing by a pattern at r = 0, 0.1 .. 0.9. Pattern "frames" gives Table 1 of DERL."""
    return [Condition(f"r={rate}", rate=rate, pattern=pattern) for rate in RATES]


def inter_modal(modalities: Sequence[str]) -> list[Condition]:
    """Every combination of available modalities, with the complete input last (Table 2 of DERL)."""
    return [
        Condition("+".join(names), available=names)
        for size in range(1, len(modalities) + 1)
        for names in combinations(modalities, size)
    ]


def conditions_of(available: Sequence[str], missing: float) -> list[str]:
    """Return the names of the conditions that a sample meets: its modalities and, if some of them is missing, a rate.

    Args:
        available: the sample's modalities, in the model's order.
        missing: the share missing of these modalities, in [0, 1]. The rate is the next one from there, at most 0.9.

    Example:
        >>> conditions_of(["text", "audio"], 0.0), conditions_of(["text"], 0.42)
        (['text+audio'], ['text', 'r=0.5'])
    """
    rate = next((rate for rate in RATES if rate >= missing - 1e-6), RATES[-1])
    return ["+".join(available), *([f"r={rate}"] if rate else [])]


def table_conditions(modalities: Sequence[str]) -> list[Condition]:
    """Conditions of the paper's tables: missing rates, then available modalities. The complete input appears once."""
    return [*intra_modal(), *inter_modal(modalities)[:-1]]


def pattern_conditions() -> list[Condition]:
    """Every pattern other than the paper's, at some rates."""
    return [
        Condition(f"{pattern} r={rate}", rate=rate, pattern=pattern)
        for pattern in PATTERNS
        if pattern != "frames"
        for rate in PATTERN_RATES
    ]
