"""Waiting for a condition with a limit, the only kind of waiting that tests do."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], *, seconds: float = 60.0, what: str = "the condition") -> None:
    """Return once `condition()` is true; fail the test if it is not within `seconds`, which is more than any machine needs."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.01)
