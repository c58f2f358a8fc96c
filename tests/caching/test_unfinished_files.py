"""Files that are being written, and those whose writers have died."""

import errno
import fcntl
import os
import time
from pathlib import Path

from eeipu import StageCache
from eeipu.caching.permissions import PRIVATE
from eeipu.caching.unfinished_files import ABANDONED_S, UnfinishedFiles


def test_where_there_are_no_locks_age_tells_what_was_abandoned(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    now = [time.time()]
    partials = UnfinishedFiles(tmp_path / "partial", PRIVATE.mkdir, now=lambda: now[0])
    path, descriptor = partials.new()
    os.close(descriptor)
    now[0] += ABANDONED_S - 60
    assert partials.clean() == 0
    now[0] += 120
    assert partials.clean() == 1
    assert not Path(path).exists()


def test_what_cannot_be_removed_is_not_counted(tmp_path, monkeypatch):
    partials = UnfinishedFiles(tmp_path / "partial", PRIVATE.mkdir)
    path, descriptor = partials.new()
    os.close(descriptor)

    def refuse(self, **options):
        raise PermissionError("read only")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert partials.clean() == 0
    assert Path(path).exists()


def test_a_writer_whose_file_was_taken_for_a_dead_ones_takes_another(tmp_path, monkeypatch):
    partials = UnfinishedFiles(tmp_path / "partial", PRIVATE.mkdir)
    lock, lost = fcntl.flock, []

    def lose_and_lock(descriptor, operation):
        if not lost:
            lost.extend((tmp_path / "partial").iterdir())
            lost[0].unlink()
        return lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lose_and_lock)
    path, descriptor = partials.new()
    os.close(descriptor)
    assert Path(path).exists()
    assert Path(path) != lost[0]


def test_files_that_cannot_be_opened_are_not_cleaned(tmp_path):
    cache = StageCache(tmp_path)
    (tmp_path / "partial" / ("ab" * 16)).mkdir(parents=True)
    assert cache.gc() == 0
