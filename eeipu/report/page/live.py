"""The report of a study as a page that follows it, served on the loopback address of this machine.

Nobody else reaches it: the server listens on 127.0.0.1 alone, and refuses requests that name
another host, which a page of a stranger could send from the user's own browser.
"""

import hashlib
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from eeipu.errors import ConfigurationError
from eeipu.report.page.document import DrawnModels, draw_models, report_html
from eeipu.report.pictures.call_tree import CacheLike
from eeipu.report.reading import load_study
from eeipu.studies.records.study_record import StudyRecord
from eeipu.studies.storages import read_storage

__all__ = ["LiveReport", "serve"]

LOOPBACK = "127.0.0.1"

# Models are fitted again when this many times as many trials have ended, and when none runs: a fit
# takes the processor from the stages.
GROWTH = 1.25


class LiveReport:
    """The page of a study as it is now.

    Args:
        storage: The storage, as `load_study` takes it. It is only read.
        study: The study's name; `None` where there is only one.
        models: Whether to fit models.
        cache: The cache of stage outputs, or its place; see `write_report`.
        every_s: After how many seconds the page looks whether anything has changed.

    Raises:
        ConfigurationError: There is no such storage or study.
        MissingExtraError: Plotly is not installed.
    """

    def __init__(
        self,
        storage: str,
        study: str | None = None,
        *,
        models: bool = True,
        cache: CacheLike = None,
        every_s: float = 5.0,
    ) -> None:
        self._storage = read_storage(storage)
        self._name = load_study(self._storage, study).study_name
        self._fits = models
        self._cache = cache
        self._every_s = every_s
        self._lock = Lock()
        self._drawn = ("", "")  # the version and its page
        self._models: tuple[int, DrawnModels] | None = None  # how many trials had ended, and they
        self.page()

    def version(self) -> str:
        """A short text that changes when the study does."""
        with self._lock:
            return self._version_of(self._read())

    def page(self) -> str:
        """The page, which is drawn again if the study has changed."""
        with self._lock:
            record = self._read()
            version = self._version_of(record)
            if version != self._drawn[0]:
                live = {"version": version, "every_s": self._every_s}
                models = self._models_of(record)
                page = report_html(record, models=models, cache=self._cache, live=live)
                self._drawn = version, page
            return self._drawn[1]

    def _read(self) -> StudyRecord:
        return StudyRecord.of(load_study(self._storage, self._name))

    def _version_of(self, record: StudyRecord) -> str:
        trials = [
            (
                each.number,
                each.state,
                len(each.trial.user_attrs),
                each.charged,
                each.trial.last_step,
            )
            for each in record.trials
        ]
        told = sorted(record.told.items())
        return hashlib.sha256(repr((trials, told)).encode()).hexdigest()[:16]

    def _models_of(self, record: StudyRecord) -> DrawnModels | None:
        if not self._fits:
            return None
        ended = len(record.ended)
        runs = any(each.state == "running" for each in record.trials)
        last = 0 if self._models is None else self._models[0]
        if self._models is None or (ended > last and (not runs or ended >= GROWTH * last)):
            self._models = ended, draw_models(record)
        return self._models[1]


class _Handler(BaseHTTPRequestHandler):
    """Answers with the page, or with its version."""

    server: "ReportServer"

    def do_GET(self) -> None:
        """Answer a request."""
        host = (self.headers.get("Host") or "").partition(":")[0]
        if host not in (LOOPBACK, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        path = self.path.partition("?")[0]
        try:
            if path == "/":
                self._answer(self.server.live.page(), "text/html")
            elif path == "/version":
                self._answer(self.server.live.version(), "text/plain")
            else:
                self.send_error(HTTPStatus.NOT_FOUND)
        except (BrokenPipeError, ConnectionResetError):  # the browser has gone
            pass
        except Exception as error:  # the storage may be gone for a while
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, explain=str(error))

    def _answer(self, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the page asks every few seconds."""


class ReportServer(ThreadingHTTPServer):
    """Serves one live report.

    Args:
        live: The report.
        port: The port; 0 takes a free one.
    """

    daemon_threads = True

    def __init__(self, live: LiveReport, port: int) -> None:
        self.live = live
        super().__init__((LOOPBACK, port), _Handler)

    def serve_until_interrupted(self) -> None:
        """Serve until Ctrl-C."""
        with suppress(KeyboardInterrupt):
            self.serve_forever()


def serve(live: LiveReport, port: int) -> ReportServer:
    """A server of a live report, which listens; use it as a context.

    Args:
        live: The report.
        port: The port; 0 takes a free one.

    Raises:
        ConfigurationError: The port cannot be taken.
    """
    try:
        return ReportServer(live, port)
    except OSError as error:
        raise ConfigurationError(
            f"port {port} of {LOOPBACK} cannot be used: {error.strerror}; --port 0 takes another."
        ) from error
