"""Answers over HTTP for people and probes, in a service's web application or on a port of their own. Reads only."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, NamedTuple

import orjson

from saga.errors import DefinitionError
from saga.text import plain

log = logging.getLogger("saga.serving")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = "application/json"
CONNECTIONS = 64
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
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
        ]


Answering = Callable[[str, str], Answer]
"""From a method and a path, its query included, to what is said. A HEAD gets the same, and its body is left out."""


def as_json(status: HTTPStatus, content: Any) -> Answer:
    """Content for programs."""
    return Answer(status, JSON, orjson.dumps(content, default=plain, option=_OPTIONS))


def refusal(method: str) -> Answer | None:
    """What is said to whoever wants to do more than read."""
    if method in ("GET", "HEAD"):
        return None
    return as_json(HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"{method} is not for reading; send GET or HEAD"})


def application(answering: Answering) -> Application:
    """An ASGI application for a mount or a route."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            found = answering(scope["method"], scope["path"])
            headers = [(name.encode(), value.encode()) for name, value in found.headers]
            await send({"type": "http.response.start", "status": int(found.status), "headers": headers})
            body = b"" if scope["method"] == "HEAD" else found.body
            await send({"type": "http.response.body", "body": body})

    return app


def place(address: str, what: str) -> tuple[str, int]:
    """The host and port of `host:port`; raises DefinitionError for what is none. Asks nobody whether one may listen there."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal() and int(port) < 2**16):
        raise DefinitionError(f"found {address!r} to answer {what} on; expected host:port, such as 0.0.0.0:8080")
    return host, int(port)


@contextmanager
def listening(answering: Answering, address: str, what: str) -> Iterator[str]:
    """Answer at `host:port` (port 0: any) in a thread beside the caller's work; gives the URL. `what` is answered, in a word.

    Raises DefinitionError for an address that is none, or on which nobody may listen.
    """
    host, port = place(address, what)

    class Handler(_Handler):
        asked = staticmethod(answering)

    try:
        server = _Server(host.strip("[]"), port, Handler)
    except OSError as error:
        raise DefinitionError(f"{what} cannot be answered on {address}: {error}; name another address") from error
    thread = Thread(target=server.serve_forever, args=[0.1], name=f"saga-{what}", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    """Has a bounded number of connections: who asks nothing, or slowly, makes way for those who come later, such as probes."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 2 * CONNECTIONS  # who finds it full is let in seconds later

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._open, self._lock = dict[Any, None](), Lock()
        super().__init__((host, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open[request] = None
            eldest = next(iter(self._open)) if len(self._open) > CONNECTIONS else None
            self._open.pop(eldest, None)
        if eldest is not None:
            with suppress(OSError):  # it has ended meanwhile
                eldest.shutdown(socket.SHUT_RDWR)  # its thread reads the end
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever goes away in the midst of it, as many probes do, is none."""
        if not isinstance(sys.exception(), OSError):
            log.exception("what was asked from %s could not be answered", client_address[0])


class _Handler(BaseHTTPRequestHandler):
    asked: Answering
    timeout = 10.0

    def do_GET(self) -> None:
        found = self.asked(self.command, self.path)
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
