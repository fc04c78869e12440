"""Ctrl-C between two transactions, and not in one."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Ctrl-C waits for the transaction at hand, of which nobody could say whether it was committed; a second one does not."""
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True

    def require_uninterrupted() -> None:
        if interrupted:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # whoever ignores it, or has a handler, goes on doing so
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield require_uninterrupted
    finally:
        signal.signal(signal.SIGINT, before)
