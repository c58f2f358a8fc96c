"""The report as a page that follows its study."""

import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import optuna
import pytest
from looking import add, paid, study_of
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from eeipu.errors import ConfigurationError
from eeipu.report.page import live
from eeipu.report.page.live import LiveReport, serve


@pytest.fixture
def stored(tmp_path):
    """A study in a file, which grows with `add`."""
    url = f"sqlite:///{tmp_path}/tune.db"
    optuna.copy_study(
        from_study_name="by hand",
        from_storage=study_of({"value": 1.0, **paid(1.0, 2.0)})._storage,
        to_storage=url,
    )
    study = optuna.load_study(study_name="by hand", storage=url)
    yield f"{tmp_path}/tune.db", study
    study._storage._backend.engine.dispose()


def pictures_of(page):
    [text] = re.findall('<script id="pictures" type="application/json">(.*?)</script>', page)
    return json.loads(text)


def test_the_page_follows_the_study(stored):
    place, study = stored
    report = LiveReport(place, models=False)
    page, version = report.page(), report.version()

    assert report.page() is page
    assert f'data-version="{version}"' in page
    assert "connect-src 'self'" in page
    assert len(pictures_of(page)["costs"]["data"][0]["x"]) == 1

    add(study, 2.0, **paid(3.0, 4.0))

    assert report.version() != version
    assert len(pictures_of(report.page())["costs"]["data"][0]["x"]) == 2


def test_a_page_in_a_file_asks_nobody(stored):
    from eeipu.report.page.document import report_html

    page = report_html(stored[1], models=False)

    assert "connect-src" not in page
    assert "data-version" not in page.partition("<script>")[0]


def test_models_are_fitted_again_when_there_is_much_more_to_fit(stored, monkeypatch):
    place, study = stored
    fits = []
    monkeypatch.setattr(live, "draw_models", lambda record: fits.append(len(record.ended)))
    add(study, state=TrialState.RUNNING)
    report = LiveReport(place)
    for k in range(6):
        add(study, float(k), **paid(1.0, 1.0))
        report.page()

    assert fits == [1, 2, 3, 4, 5, 7]


def test_nothing_is_written_to_the_storage(stored):
    place, study = stored
    report = LiveReport(place, models=False)

    with pytest.raises(StorageInternalError):
        report._read().study.set_user_attr("a", 1)
    assert "a" not in study.user_attrs


@contextmanager
def served(place):
    with serve(LiveReport(place, models=False), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def asked(port, path="/", host=None):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={} if host is None else {"Host": host}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


def test_it_is_served_on_this_machine_alone(stored):
    place, study = stored
    with served(place) as port:
        page = asked(port)
        assert "<title>by hand</title>" in page
        assert asked(port, host=f"localhost:{port}") == page
        version = asked(port, "/version")
        add(study, 2.0, **paid(3.0, 4.0))
        assert asked(port, "/version") != version
        with pytest.raises(urllib.error.HTTPError, match="403"):
            asked(port, host="evil.example")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            asked(port, "/tune.db")


def test_a_storage_that_fails_is_told_and_the_server_goes_on(stored, monkeypatch):
    place, _ = stored
    with served(place) as port:
        monkeypatch.setattr(live.LiveReport, "version", lambda self: 1 / 0)
        with pytest.raises(urllib.error.HTTPError, match="500"):
            asked(port, "/version")
        assert "by hand" in asked(port)


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_follows_the_study(stored, tmp_path):
    place, study = stored
    asked_for = []

    class Growing(LiveReport):
        """A report of a study that grows once it has been looked at."""

        def version(self):
            if not asked_for:
                add(study, 2.0, **paid(3.0, 4.0))
            asked_for.append(1)
            return super().version()

    with serve(Growing(place, models=False, every_s=1.0), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
            where = [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=15000"]
            page = f"http://127.0.0.1:{server.server_port}/"
            command = [CHROMIUM, *options, *where, "--dump-dom", page]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        finally:
            server.shutdown()
            thread.join()

    assert "CONSOLE" not in done.stderr
    assert asked_for
    # The page was loaded again, and shows both trials.
    assert "<span>trials</span><b>2</b>" in done.stdout


def test_a_port_that_is_taken_is_said(stored):
    place, _ = stored
    report = LiveReport(place, models=False)
    with serve(report, 0) as server, pytest.raises(ConfigurationError, match="--port 0"):
        serve(report, server.server_port)


def test_a_study_that_is_not_there_is_said_at_once(stored):
    with pytest.raises(ConfigurationError, match="no study 'other'"):
        LiveReport(stored[0], "other")
