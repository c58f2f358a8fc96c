"""The state of a study at one moment, made up."""

from eeipu import StageRun
from eeipu.studies.displays.snapshot import Snapshot


def snapshot(**changes):
    """A study in its fifth trial, which has not run a stage yet."""
    return Snapshot(
        **{
            "study_name": "digits",
            "trials": 3,
            "failed": 0,
            "budget": 60.0,
            "spent": 15.0,
            "saved": 2.5,
            "unit": " s",
            "best_value": 0.93456789,
            "number": 4,
            "value": None,
            "charged": 0.0,
            "stage_names": ("prep", "fit", "score"),
            "stage_runs": (),
            "activity": "",
            "time_s": 1000.0,
            "elapsed_s": 21.0,
            "choosing_s": 3.25,
            "end_s": None,
            **changes,
        }
    )


ENDED = snapshot(
    number=3,
    value=0.5,
    charged=1.26,
    stage_runs=(
        StageRun("prep", "key", memoized=True, saved=2.5),
        StageRun("fit", "key", cost=1.25),
        StageRun("score", "key", cost=0.01),
    ),
)

TRACEBACK = """\
Traceback (most recent call last):
  File "stages.py", line 3, in fit
    raise ValueError("no data\\nat all")
ValueError: no data
at all
"""

FAILED = snapshot(
    number=3,
    failed=1,
    charged=0.5,
    stage_runs=(
        StageRun("prep", "key", memoized=True, saved=2.5),
        StageRun("fit", "key", cost=0.5, error=TRACEBACK),
    ),
)
