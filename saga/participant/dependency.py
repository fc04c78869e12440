"""Something outside that steps need, as a service declares it: which exceptions are its own, and when it counts as away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from saga.errors import DefinitionError

_WAITS = "waits for "

Seconds = timedelta | float
"""A length of time; a number is seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A foreign system with its circuit breaker; made by `Participant.dependency`, which says what the fields mean.

    `window` and `pause` are seconds.
    """

    name: str
    errors: tuple[type[Exception], ...]
    failure_rate: float
    window: float
    minimum_calls: int
    pause: float
    probes: int

    def __post_init__(self) -> None:
        if (wrong := self._wrong()) is not None:
            found, expected = wrong
            raise DefinitionError(f"dependency {self.name!r}: found {found}; expected {expected}. Correct its declaration.")

    @property
    def awaited(self) -> str:
        """How messages for people say that it is awaited."""
        return _WAITS + self.name

    def _wrong(self) -> tuple[str, str] | None:
        """What was found and what was expected of the first setting that is wrong."""
        if not self.name.strip():
            return f"the name {self.name!r}", "a word or two for messages and metrics"
        if not all(map(_is_exception, self.errors)):
            return f"errors={self.errors!r}", "classes of exceptions"
        if not _is_between(self.failure_rate, 0, 1):
            return f"failure_rate={self.failure_rate!r}", "a share above 0, up to 1"
        for name in ("window", "pause"):
            if not _is_between(value := getattr(self, name), 0, math.inf):
                return f"{name}={value!r}", "a timedelta or seconds, more than 0"
        for name in ("minimum_calls", "probes"):
            if type(value := getattr(self, name)) is not int or value < 1:
                return f"{name}={value!r}", "a whole number of at least 1"
        return None


Needs = Dependency | Sequence[Dependency]
"""What a handler may say that it needs."""


def awaited(error: str) -> str | None:
    """What is awaited, if a parked step's error says only that: `waits for courier-api`."""
    return error.partition(": ")[0] if error.startswith(_WAITS) else None


def seconds(length: Seconds) -> float:
    """A length of time as a number."""
    return length.total_seconds() if isinstance(length, timedelta) else length


def needed(needs: Needs) -> tuple[Dependency, ...]:
    """What a handler says that it needs, as a tuple."""
    return (needs,) if isinstance(needs, Dependency) else tuple(needs)


def _is_exception(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Exception)


def _is_between(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low < value <= high and math.isfinite(value)
