"""Faults: of the places where a cache is, and of pipelines that went wrong.

`python benchmarks/faults.py [--section places|pipelines] [--only WORDS] [--json]` or `make faults`.
On two cores, the places take about two minutes and the pipelines about fifteen.

- *places*: kills, damage, races, a full disk, lost permissions, clocks. Every figure is a number of
  failures, or of successes, out of a stated number of tries.
- *pipelines*: the tables of cases in `fault_cases`. Each case runs in processes of its own. Wrong
  values and needless misses are counted and named; the times of looks are beside those of
  `joblib.hash`.
"""

from collections import Counter
from collections.abc import Iterator

from fault_cases.judging import figures as figures_of_pipelines
from fault_cases.places import clock_backwards, corruptions, disk_full, permission_lost
from fault_cases.processes import holders_killed, kills, race, study_kills
from figures import Figure, arguments_of, at_most, show


def nothing(name: str, wrong: Counter[str], *kinds: str) -> Iterator[Figure]:
    """Figures that should be zero."""
    for kind in kinds:
        yield at_most(f"{name}: {kind}", wrong[kind], "count", 0)


def all_of(name: str, value: float, tries: int) -> Figure:
    """A count that should be complete."""
    return Figure(name, value, "count", f"== {tries}", value == tries)


def figures_of_places() -> Iterator[Figure]:
    """The faults of places, one after another."""
    wrong = kills(150)
    yield from nothing(
        "SIGKILL x 150 in puts, gets, evictions",
        wrong,
        *("lost", "values", "damaged", "leftovers", "beyond the bound"),
    )
    wrong = study_kills(50)
    name = "SIGKILL x 50 in a running study"
    yield from nothing(name, wrong, "lost trials", "values", "damaged", "leftovers")
    yield Figure(f"{name}: trials that were finished between them", wrong["finished"], "count")
    found = corruptions(200)
    yield all_of("200 corruptions: noticed by verify and by get", found["noticed"], 200)
    yield all_of("200 corruptions: put into quarantine", found["quarantined"], 200)
    yield from nothing("200 corruptions", found, "wrong values")
    runs = race(8, 100)
    yield all_of("8 processes, 100 nodes: executed", runs["executed"], 100)
    yield from nothing("8 processes, 100 nodes", runs, "twice", "failed")
    how, count = disk_full(20)
    yield all_of(f"disk full ({how}): trials finished, with warnings", count, 20)
    count = permission_lost(20)
    yield all_of("permission lost: trials finished, with warnings", count, 20)
    wrong = clock_backwards(200)
    yield from nothing("clock set back x 200", wrong, "values", "pins lost", "beyond the bound")
    for name, kind in (("files", "kernel locks"), ("beating", "beating leases")):
        taken, longest_s = holders_killed(name, 20)
        yield all_of(f"20 holders killed, {kind}: their place taken", taken, 20)
        yield Figure(f"20 holders killed, {kind}: longest wait", longest_s, "s")


def figures(section: str | None, only: str) -> Iterator[Figure]:
    """The figures of a section; of both by default.

    Args:
        section: Its name.
        only: A part of the names of the cases to run, which only the pipelines have.
    """
    if section != "pipelines" and not only:
        yield from figures_of_places()
    if section != "places":
        yield from figures_of_pipelines(only)


if __name__ == "__main__":
    parser = arguments_of(__doc__)
    parser.add_argument("--section", choices=["places", "pipelines"])
    parser.add_argument("--only", default="", help="a part of the names of the cases to run")
    asked = parser.parse_args()
    show(figures(asked.section, asked.only))
