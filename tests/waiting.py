"""Waiting for a condition with a limit, the only kind of waiting that tests do."""

from __future__ import annotations

import time
from collections.abc import Callable

SOONEST, LATEST = 0.01, 0.1
"""Seconds between two looks, more of them the longer it lasts: looking takes the processor from what is waited for."""


def until(condition: Callable[[], object], *, seconds: float = 60.0, what: str = "the condition") -> None:
    """Return once `condition()` is true; fail the test if it is not within `seconds`, which is more than any machine needs."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(min(max(SOONEST, waited / 10), LATEST))
