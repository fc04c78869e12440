"""A TCP proxy between a service and a server, which can be told to do to its connections what networks do."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

from servers.process import LOOPBACK

_CHUNK = 65_536
_POLL = 0.02
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends RST instead of FIN."""


class Mode(StrEnum):
    """What happens to bytes; `asking` flow from the service to the server, `answering` back."""

    OPEN = "open"
    HOLE = "hole"  # nothing arrives, nothing is refused
    DEAF = "deaf"  # questions arrive, answers do not
    SLOW = "slow"  # 4 KiB a second each way
    CUT_COMMIT = "cut commit"  # a connection ends when the answer to its COMMIT comes


class Proxy:
    """Listens on a port of its own and forwards to `target` (host:port); `cuts` counts answers to a COMMIT that were lost."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self.target, self.mode, self.cuts = (host, int(port)), Mode.OPEN, 0
        self._listener = socket.create_server((LOOPBACK, 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._committing: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self._listener.getsockname()[1]}"

    def aim(self, target: str) -> None:
        """Forward new connections to this address."""
        host, _, port = target.rpartition(":")
        self.target = host, int(port)

    @contextmanager
    def doing(self, mode: Mode) -> Iterator[None]:
        """Treat all connections so while the block lasts; those that were in a hole die at its end, as they would."""
        self.mode = mode
        try:
            yield
        finally:
            self.mode = Mode.OPEN
            if mode in (Mode.HOLE, Mode.DEAF):
                self.reset()

    def reset(self) -> None:
        """End all connections as by a router that forgot them."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _reset(end)

    def close(self) -> None:
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            try:
                outer = socket.create_connection(self.target, timeout=5)
            except OSError:
                _reset(inner)
                continue
            outer.settimeout(None)
            with self._lock:
                self._pairs.append((inner, outer))
            threading.Thread(target=self._pump, args=(inner, outer, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(outer, inner, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, asking: bool) -> None:
        """Forward one direction until either end is gone."""
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                while self.mode is Mode.HOLE or (self.mode is Mode.DEAF and not asking):
                    time.sleep(_POLL)
                if self.mode is Mode.CUT_COMMIT and self._cuts(source, sink, data, asking):
                    break
                if self.mode is Mode.SLOW:
                    time.sleep(len(data) / 4096)
                sink.sendall(data)
        _reset(source)
        _reset(sink)

    def _cuts(self, source: socket.socket, sink: socket.socket, data: bytes, asking: bool) -> bool:
        """Whether this is the answer to a COMMIT, which the server has carried out by now."""
        if asking:
            if b"COMMIT" in data:
                self._committing.add(sink)
            return False
        if source not in self._committing:
            return False
        self._committing.discard(source)
        self.cuts += 1
        return True


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
