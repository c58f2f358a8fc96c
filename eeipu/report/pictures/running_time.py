"""The time axis of a study: wall-clock time, without the pauses in which nothing ran."""

from bisect import bisect_right
from collections.abc import Iterable

from eeipu.studies.records.study_record import StudyRecord, TrialRecord

__all__ = ["RunningTime"]


class RunningTime:
    """Maps the time of day to the seconds during which trials were running until then.

    A study may run in several sittings, with a night between two of them, which is left out.

    Args:
        spans: The beginning and end of each trial, in seconds since the epoch.
    """

    def __init__(self, spans: Iterable[tuple[float, float]]) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []
        for began, ended in sorted(spans):
            if self._ends and began <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], ended)
            else:
                self._starts.append(began)
                self._ends.append(ended)
        self._before = [0.0]
        for began, ended in zip(self._starts, self._ends, strict=True):
            self._before.append(self._before[-1] + ended - began)

    @classmethod
    def of(cls, record: StudyRecord) -> "RunningTime":
        """The running time of a study."""
        spans = [_span(each) for each in record.trials]
        calls = [(a, b) for each in record.trials for _, a, b in each.attr("ran") or ()]
        return cls([*(span for span in spans if span is not None), *calls])

    def at(self, time_s: float) -> float:
        """The seconds of running until a time, in seconds since the epoch."""
        k = bisect_right(self._starts, time_s)
        if k == 0:
            return 0.0
        return self._before[k - 1] + min(time_s, self._ends[k - 1]) - self._starts[k - 1]

    def of_end(self, each: TrialRecord) -> float:
        """The seconds of running until a trial had ended; 0 where that is unknown."""
        ended = each.trial.datetime_complete
        return 0.0 if ended is None else self.at(ended.timestamp())


def _span(each: TrialRecord) -> tuple[float, float] | None:
    began_s, ended = each.asked_s, each.trial.datetime_complete
    if began_s is None or ended is None:
        return None
    return began_s, max(began_s, ended.timestamp())
