"""Numbers as text, with as many digits as the scale of the labels asks for."""

from decimal import Context, Decimal

FLOAT32 = 2.0**-23  # the smallest relative step of a label or score


def significant(value: float, scale: float, digits: int = 3) -> str:
    """Round a finite number to ``digits`` significant digits of ``scale``, but never more coarsely than to units.

    Args:
        value: the number.
        scale: size of a difference that matters, such as the width of an interval around the number.
        digits: how many digits of the scale to show.

    Example:
        >>> significant(0.00012345, 0.0003), significant(100.00012345, 0.0003), significant(123456.7, 3e5)
        ('0.000123', '100.000123', '123457')
        >>> significant(3.7e-7, 3.7e-7), significant(-1e-9, 0.5)
        ('3.70e-7', '0')
    """
    unit = max(abs(scale), abs(value) * FLOAT32)
    place = min(Decimal(unit).adjusted() - digits + 1, 0)
    rounded = Decimal(value).quantize(Decimal((0, (1,), place)), context=Context(prec=99))
    return str(rounded).replace("E", "e") if rounded else "0"
