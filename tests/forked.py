"""Work that is done in a process which was forked from that of the test."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FORKS = multiprocessing.get_context("fork")
PATIENCE = 30


@contextmanager
def forked(work: Callable[[], object]) -> Iterator[None]:
    """The work is done in a process that was forked from this one."""
    child = FORKS.Process(target=work)
    child.start()
    try:
        yield
        child.join(PATIENCE)
        assert child.exitcode == 0
    finally:
        child.kill()
