"""SIGTERM and Ctrl-C as a wish to come to an orderly end."""

from __future__ import annotations

import signal
import threading
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def asked_to_end(end: Callable[[str], object]) -> Iterator[None]:
    """SIGTERM and SIGINT call `end` with their name, in a thread of its own: whoever is interrupted may hold its locks.

    The handlers of before come back. Outside of the main thread, which alone may set them, nothing is heard.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def hear(number: int, _: object) -> None:
        start_new_thread(end, (signal.Signals(number).name,))

    before: dict[int, Any] = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
