"""Numbers of things as text."""

__all__ = ["counted"]


def counted(number: float, noun: str, plural: str | None = None) -> str:
    """A number with its noun, which is a plural unless the number is 1.

    Args:
        number: The number.
        noun: What there is one of.
        plural: What there are several of; `None`: the noun with an s.

    >>> counted(1, "trial"), counted(2, "trial"), counted(1200, "entry", "entries")
    ('1 trial', '2 trials', '1200 entries')
    """
    return f"1 {noun}" if number == 1 else f"{number} {plural or noun + 's'}"
