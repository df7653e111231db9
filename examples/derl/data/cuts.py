"""Say what was cut."""

from collections.abc import Sequence


def describe_cut(name: str, unit: str, lengths: Sequence[int], limit: int) -> str:
    """Say which samples are longer than the model reads; empty if none is.

    Args:
        name: the modality.
        unit: what ``lengths`` count.
        lengths: the whole length of each sample.
        limit: the model's maximum.

    Example:
        >>> describe_cut("text", "tokens", [3, 42, 9], 8)
        "text was cut to its first 8 tokens, the model's maximum, in 2 of 3 samples; the longest had 42"
        >>> describe_cut("text", "tokens", [3, 8], 8)
        ''
    """
    longer = [length for length in lengths if length > limit]
    if not longer:
        return ""
    return (
        f"{name} was cut to its first {limit} {unit}, the model's maximum, in {len(longer)} of {len(lengths)} samples; "
        f"the longest had {max(longer)}"
    )
