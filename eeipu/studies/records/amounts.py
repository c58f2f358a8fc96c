"""Costs and times as text."""

__all__ = ["amount", "duration"]


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
