"""Costs, times and values as text."""

from collections.abc import Sequence

__all__ = ["amount", "duration", "value_text"]


def amount(cost: float, unit: str) -> str:
    """A cost with its unit, without an exponent where that is readable."""
    return f"{cost:,.0f}{unit}" if 1e4 <= cost < 1e9 else f"{cost:.4g}{unit}"


def duration(seconds: float) -> str:
    """A time that a user waits, such as `"4 min 12 s"`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def value_text(value: float | Sequence[float]) -> str:
    """An objective, or several of them, such as `"0.9345"` or `"0.93, 12.4"`."""
    values = [value] if isinstance(value, float | int) else value
    return ", ".join(f"{each:.6g}" for each in values)
