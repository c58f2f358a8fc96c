"""Types of libraries, recognised without importing these."""

__all__ = ["package_and_name"]


def package_and_name(kind: type) -> tuple[str, str]:
    """The package that a class is from, and its name, by which a library's class is recognised."""
    # A class that is made by a call may say that it is from no module.
    return (str(kind.__module__).partition(".")[0], kind.__name__)
