"""The figures of all cases: what is wrong, what is missed for no reason, what crashes, how long."""

from collections import Counter
from collections.abc import Iterator, Sequence

from figures import Figure, at_most

from fault_cases import crashes, input_digests, looks, misses, pools, unseen_code, wrong_values
from fault_cases.cases import Case, outcome_of

__all__ = ["figures"]

# Of what a case says, this much is shown.
SHOWN = 160


def figures(only: str = "") -> Iterator[Figure]:
    """The cases, one after another, and the count of each table.

    Args:
        only: A part of the names of the cases to run.
    """
    values = [
        *wrong_values.CASES,
        *pools.DIFFERING,
        *unseen_code.CASES,
        *input_digests.DIFFERENT,
    ]
    yield from _table("wrong values", values, only, ("right", "refused"))
    yield from _table("needless misses", [*misses.CASES, *pools.SEEDED], only, ("right",))
    yield from _table("misses without their reason", misses.EXPLAINED, only, ("right",))
    yield from _table("crashes", crashes.WORKING, only, ("right",))
    yield from _table("errors without a remedy", crashes.REFUSALS, only, ("refused",))
    yield from looks.figures(only)


def _table(what: str, cases: Sequence[Case], only: str, good: tuple[str, ...]) -> Iterator[Figure]:
    """Each case of a table that is not good, with what it said, and how many there are."""
    kinds = Counter[str]()
    for case in cases:
        if only not in case.name:
            continue
        outcome = outcome_of(case)
        kinds[outcome.kind] += 1
        title = f"{what}: {case.name}"
        said = "" if outcome.said is None else f": {outcome.said!s:.{SHOWN}}"
        if outcome.kind == "left out":
            yield Figure(f"{title}: left out{said}", 0, "count")
        else:
            is_good = outcome.kind in good
            shown = title if outcome.kind == "right" else f"{title}: {outcome.kind}{said}"
            yield at_most(shown, int(not is_good), "count", 0)
    run = sum(kinds.values()) - kinds["left out"]
    if run:
        bad = run - sum(kinds[kind] for kind in good)
        yield at_most(f"{what}, of {run} cases", bad, "count", 0)
        if what == "wrong values":
            yield at_most(f"{what} that were returned, of {run} cases", kinds["wrong"], "count", 0)
        if kinds["left out"]:
            yield Figure(f"{what}: cases left out", kinds["left out"], "count")
