"""Health over HTTP: `/livez`, `/readyz`, `/health`, and `/metrics`, in a service's web application or on a port of their own.

Nothing is asked when a request comes in; the answer is what the worker and its watch saw last, so a probe never waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

import orjson

from saga.engine.health import Health, Part, State
from saga.engine.worker import Worker
from saga.errors import DefinitionError
from saga.observe.prometheus import CONTENT_TYPE, exposition
from saga.participant.participant import Participant

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = "application/json"
_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


class Answer(NamedTuple):
    """What a request is answered with."""

    status: HTTPStatus
    content_type: str
    body: bytes

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [
            ("content-type", self.content_type),
            ("content-length", str(len(self.body))),
            ("cache-control", "no-store"),
        ]


class Opening:
    """Stands for the `worker` of a process that has none yet, since its database does not answer."""

    def __init__(self, participant: Participant) -> None:
        self.participant = participant
        self.worker: Worker | None = None

    def health(self) -> Health:
        if self.worker is not None:
            return self.worker.health()
        part = Part("store", State.DEGRADED, "waiting for the database")
        return Health(self.participant.name, self.participant.saga.name, (part,))


def told(health: Health) -> dict[str, Any]:
    """Health as JSON has it: the verdict and its reasons first, then every part."""
    return {
        "state": health.state,
        "reasons": health.reasons,
        "participant": health.participant,
        "saga": health.saga,
        "parts": [{"name": part.name, "state": part.state, "text": part.text} for part in health.parts],
    }


def answer(worker: Worker | Opening, method: str, path: str) -> Answer:
    """What is said at the last segment of this path; a HEAD gets the same, and whoever sends it leaves the body out."""
    if method not in ("GET", "HEAD"):
        return _json(HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"{method} is not for reading; send GET or HEAD"})
    page = path.partition("?")[0].rstrip("/").rpartition("/")[2]
    if page == "metrics":
        if isinstance(worker, Opening):
            if worker.worker is None:
                return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "waiting for the database; no worker is there yet"})
            worker = worker.worker
        return Answer(HTTPStatus.OK, CONTENT_TYPE, exposition(worker).encode())
    if page not in ("livez", "readyz", "health"):
        return _json(HTTPStatus.NOT_FOUND, {"error": f"there is no {path}; ask for /livez, /readyz, /health or /metrics"})
    health = worker.health()
    fine = {"livez": health.alive, "readyz": health.ready, "health": True}[page]
    return _json(HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE, told(health))


def asgi(worker: Worker) -> Application:
    """An ASGI application for a mount or a route: `Mount("/saga", asgi(worker))` answers at `/saga/livez` and its like."""

    async def health(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            found = answer(worker, scope["method"], scope["path"])
            headers = [(name.encode(), value.encode()) for name, value in found.headers]
            await send({"type": "http.response.start", "status": int(found.status), "headers": headers})
            body = b"" if scope["method"] == "HEAD" else found.body
            await send({"type": "http.response.body", "body": body})

    return health


def place(address: str) -> tuple[str, int]:
    """The host and port of `host:port`; raises DefinitionError for what is none. Asks nobody whether one may listen there."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal() and int(port) < 2**16):
        raise DefinitionError(f"found {address!r} to answer health on; expected host:port, such as 0.0.0.0:8080")
    return host, int(port)


@contextmanager
def served(worker: Worker | Opening, address: str) -> Iterator[str]:
    """Answer at `host:port` (port 0: any) in a thread beside the caller's work; gives the URL.

    Raises DefinitionError for an address that is none, or on which nobody may listen.
    """
    host, port = place(address)

    class Handler(_Handler):
        asked = worker

    try:
        server = _Server((host.strip("[]"), port), Handler)
    except OSError as error:
        raise DefinitionError(f"health cannot be answered on {address}: {error}; name another address") from error
    thread = Thread(target=server.serve_forever, args=[0.1], name="saga-health", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    asked: Worker | Opening
    timeout = 10.0

    def do_GET(self) -> None:
        found = answer(self.asked, self.command, self.path)
        self.send_response(found.status)
        for name, value in found.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found.body)

    do_HEAD = do_GET  # noqa: N815
    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: probes come every few seconds."""


async def _live(receive: Receive, send: Send) -> None:
    """Nothing is to be done at the start and at the end."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _json(status: HTTPStatus, content: Any) -> Answer:
    return Answer(status, JSON, orjson.dumps(content, option=_OPTIONS))
