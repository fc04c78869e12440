"""The breakers of a participant in this process: asked before every call that needs something, told what became of it.

Shared by all threads. A new process begins with all of them closed and finds out for itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import NamedTuple, TypeVar

from saga.clock import Clock
from saga.handling.breaker import Breaker, Circuit, Permit
from saga.handling.invocation import HandlerFailure
from saga.participant.dependency import Dependency
from saga.participant.failure import Failure
from saga.participant.handler import Handler

log = logging.getLogger("saga.breaker")

Found = TypeVar("Found")
_FREE = nullcontext()  # most handlers need nothing, and pay nothing


class Unasked(HandlerFailure):
    """A handler was not called, since something that it needs is away.

    `is_untouched`: neither was it at any earlier try, so the world cannot know of it.
    """

    def __init__(self, handler: Handler, workflow_id: str, dependency: Dependency) -> None:
        super().__init__(handler, workflow_id, dependency.awaited, Failure.of(dependency))
        self.is_untouched = False


@dataclass(frozen=True, slots=True)
class BreakerStanding:
    """How one breaker stands, and since when; `failure_rate` is that of its window, `next_probe` is set while it is open."""

    circuit: Circuit
    failure_rate: float
    since: datetime
    next_probe: datetime | None


class Breakers:
    """Breakers by name of the dependency."""

    def __init__(self, dependencies: Iterable[Dependency], clock: Clock) -> None:
        self.clock = clock
        self._lock = Lock()
        self._breakers = {each.name: Breaker(each, clock.monotonic()) for each in dependencies}

    def refusing(self, needs: Sequence[Dependency]) -> Dependency | None:
        """The first of these for which a call had to wait now."""
        return next((each for each in needs if self._ask(each, Breaker.refuses)), None) if needs else None

    def wait(self, dependency: Dependency, chance: float) -> timedelta:
        """For how long to put off what needs it; `chance` in [0, 1) spreads those that do."""
        return timedelta(seconds=self._ask(dependency, lambda breaker, now: breaker.wait(now, chance)))

    def passage(self, handler: Handler, workflow_id: str) -> AbstractContextManager[None]:
        """Around one call of the handler, whose end is noted. Raises Unasked if it must not be made."""
        return self._passage(handler, workflow_id) if handler.needs else _FREE

    @contextmanager
    def _passage(self, handler: Handler, workflow_id: str) -> Iterator[None]:
        permits = self._admit(handler, workflow_id)
        blamed: Dependency | None = None
        answered = False
        try:
            yield
            answered = True
        except HandlerFailure as failure:
            blamed = failure.dependency
            raise
        finally:
            for each, permit in permits:
                self._tell(each, permit, answered=answered, failed=each is blamed)

    def standing(self) -> dict[str, BreakerStanding]:
        """How each stands now."""
        with self._lock:
            return {name: self._standing_of(breaker) for name, breaker in self._breakers.items()}

    def _admit(self, handler: Handler, workflow_id: str) -> list[tuple[Dependency, Permit]]:
        """Through all or none of them."""
        permits: list[tuple[Dependency, Permit]] = []
        for each in handler.needs:
            if (permit := self._ask(each, Breaker.admit)) is None:
                for other, held in permits:
                    self._tell(other, held, answered=False, failed=False)
                raise Unasked(handler, workflow_id, each)
            permits.append((each, permit))
        return permits

    def _tell(self, dependency: Dependency, permit: Permit, *, answered: bool, failed: bool) -> None:
        def tell(breaker: Breaker, now: float) -> None:
            if answered:
                breaker.succeeded(permit, now)
            elif failed:
                breaker.failed(permit, now)
            else:
                breaker.abandoned(permit)

        self._ask(dependency, tell)

    def _ask(self, dependency: Dependency, question: Callable[[Breaker, float], Found]) -> Found:
        """Ask or tell its breaker something, and report it if that was what changed it."""
        with self._lock:
            now, breaker = self.clock.monotonic(), self._breakers[dependency.name]
            before = breaker.circuit
            found = question(breaker, now)
            after = _Change(breaker.circuit, breaker.openings, *breaker.window.counted(now))
        if after.circuit is not before:
            after.report(dependency)
        return found

    def _standing_of(self, breaker: Breaker) -> BreakerStanding:
        now, moment = self.clock.monotonic(), self.clock.now()
        calls, failures = breaker.window.counted(now)
        next_probe = moment + timedelta(seconds=breaker.next_probe - now) if breaker.circuit is Circuit.OPEN else None
        since = moment - timedelta(seconds=now - breaker.since)
        return BreakerStanding(breaker.circuit, failures / calls if calls else 0.0, since, next_probe)


class _Change(NamedTuple):
    circuit: Circuit
    openings: int
    calls: int
    failures: int

    def report(self, dependency: Dependency) -> None:
        """A warning when it opens; that it does so again after each probe is no news."""
        match self.circuit:
            case Circuit.OPEN if self.openings == 1:
                log.warning(
                    "%s does not answer: %d of %d calls failed within %g s. What needs it waits, and spends no attempt; "
                    "it is tried again every %g s",
                    dependency.name, self.failures, self.calls, dependency.window, dependency.pause,
                )  # fmt: skip
            case Circuit.OPEN:
                log.info("%s still does not answer; it is tried again in %g s", dependency.name, dependency.pause)
            case Circuit.HALF_OPEN:
                log.info("%s is tried again", dependency.name)
            case Circuit.CLOSED:
                log.info("%s answers again", dependency.name)
