"""Parked workflows, posted to a URL as JSON: from a thread of its own, so that no lane ever waits for whoever listens.

At most a bounded number waits to be posted; what comes beyond it is dropped and counted in the log. The database knows all of
them: `saga parked`.
"""

from __future__ import annotations

import atexit
import logging
import socket
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from queue import Empty, Full, Queue
from threading import Event, Lock, Thread, Timer
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

import orjson

from saga.count import many
from saga.errors import DefinitionError
from saga.participant.escalation import Parked

log = logging.getLogger("saga.webhook")

Post = Callable[[bytes], None]

QUEUED = 1000
ATTEMPTS = 3
TIMEOUT = 5.0
LONGEST = 10.0
PAUSE = 1.0
FAREWELL = 5.0


class _Unmoved(HTTPRedirectHandler):
    """Follows nobody: what is posted would be asked for there, without its body."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Timely(HTTPConnection):
    """Awaits no answer for longer than that, since `TIMEOUT` begins anew with each byte of it."""

    def getresponse(self) -> HTTPResponse:
        over, connected = Event(), self.sock

        def end() -> None:
            over.set()
            with suppress(OSError):  # it has ended meanwhile
                connected.shutdown(socket.SHUT_RDWR)

        timer = Timer(LONGEST, end)
        timer.daemon = True
        timer.start()
        try:
            answer = super().getresponse()
        except Exception:
            if not over.is_set():
                raise
        finally:
            timer.cancel()
        if over.is_set():  # a head that was cut off may be read as a whole one
            raise TimeoutError(f"its answer was not there after {LONGEST:g} s")
        return answer


class _TimelyTLS(_Timely, HTTPSConnection):
    pass


class _Plainly(HTTPHandler):
    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_Timely, req)


class _Secretly(HTTPSHandler):
    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_TimelyTLS, req)


class Webhook:
    """A listener of `Participant.on_parked`. `post` and `pause` (seconds before another attempt) are arguments for tests.

    The URL may hold a secret, or `user:password@`: nothing but its host is ever logged. Raises DefinitionError for what is no
    http address.
    """

    def __init__(self, url: str, *, post: Post | None = None, queued: int = QUEUED, pause: float = PAUSE) -> None:
        parts = _parts(url.strip())
        user, _, place = parts.netloc.rpartition("@")
        self.host, self._pause = parts.hostname or "", pause
        self._url = urlunsplit(parts._replace(netloc=place, fragment=""))
        self._headers = {"content-type": "application/json"}
        if user:
            self._headers["authorization"] = f"Basic {b64encode(unquote(user).encode()).decode()}"
        self._post = post or self._send
        self._queue: Queue[bytes] = Queue(queued)
        self._dropped, self._lock = 0, Lock()
        self._ending = Event()
        self._thread: Thread | None = None

    def __call__(self, parked: Parked) -> None:
        """Have it posted; never waits."""
        self._run()
        try:
            self._queue.put_nowait(orjson.dumps(parked))
        except Full:
            with self._lock:
                self._dropped += 1
            if self._dropped == 1:
                log.warning("%s does not keep up: what is parked is told no more until it does; see: saga parked", self.host)

    def close(self) -> None:
        """Post what waits, for a few seconds at most, and end; what is left then is counted in the log."""
        self._ending.set()
        if self._thread is None:
            return
        self._thread.join(FAREWELL)
        if self._thread.is_alive():
            self._tell_untold(self._queue.qsize() + 1 + self._dropped)

    def _run(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._work, name="saga-webhook", daemon=True)
                self._thread.start()
                atexit.register(self.close)

    def _work(self) -> None:
        while not (self._ending.is_set() and self._queue.empty()):
            try:
                body = self._queue.get(timeout=0.1)
            except Empty:
                continue
            self._deliver(body)
            self._tell_dropped()

    def _deliver(self, body: bytes) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._post(body)
                return
            except HTTPError as error:
                error.close()
                moved = ", which leads elsewhere; correct SAGA_WEBHOOK" if 300 <= error.code < 400 else ""
                why = f"it answered {error.code}{moved}"
            except Exception as error:  # whatever it is, the next one is to be posted
                why = _why(error)
            if attempt < ATTEMPTS:
                self._ending.wait(self._pause * attempt)
        log.error("%s was not told of a parked workflow, after %d attempts: %s; see: saga parked", self.host, ATTEMPTS, why)

    def _tell_dropped(self) -> None:
        with self._lock:
            dropped = self._dropped if self._queue.empty() else 0
            self._dropped -= dropped
        if dropped:
            self._tell_untold(dropped)

    def _tell_untold(self, count: int) -> None:
        log.warning("%s was not told of %s; see: saga parked", self.host, many(count, "parked workflow"))

    def _send(self, body: bytes) -> None:
        request = Request(self._url, body, self._headers)  # noqa: S310 - the scheme was looked at
        with build_opener(_Unmoved, _Plainly, _Secretly).open(request, timeout=TIMEOUT):
            pass


def _parts(url: str) -> SplitResult:
    """Of an address that can be asked; else of what was to come to light only when there is an alarm."""
    try:
        parts = urlsplit(url)
        is_plain = url.isascii() and url.isprintable() and " " not in url
        if is_plain and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError:  # a bracket that is not closed, a port that is no number; its own words would show the URL
        pass
    raise DefinitionError(
        "the webhook is no address; expected https://host/path, with %-escapes for blanks and letters that are not ASCII. "
        "Correct SAGA_WEBHOOK."
    )


def _why(error: Exception) -> str:
    """The system's own words; those of others may show the address, or all that was answered."""
    cause = error.reason if isinstance(error, URLError) else error
    return (str(cause) if isinstance(cause, OSError) else "") or type(cause).__name__
