"""A circuit breaker: whether a dependency is to be called now. A state machine over a clock that is an argument, and pure.

| circuit | calls | it becomes |
|---|---|---|
| closed | all go through, and are counted over a sliding window | open, once enough of at least a minimum of calls failed |
| open | none goes through | half-open, when the pause is over and the next call asks |
| half-open | some go through, as probes | closed when all of them succeeded, open when one failed |

What is heard of a call that was let through before the last change is too old to say anything, and is not counted.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from saga.participant.dependency import Dependency

SLICES = 10
DOUBLINGS = 3

Permit = int
"""Says when a call was let through: as the how-manieth change of the circuit was the latest."""


class Circuit(StrEnum):
    """Whether current flows."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """The breaker of one dependency. `now` is in seconds and never goes back; not thread-safe.

    `since` is when it last changed, `openings` how often it opened since it was last closed.
    """

    def __init__(self, dependency: Dependency, now: float) -> None:
        self.dependency, self.circuit, self.since, self.openings = dependency, Circuit.CLOSED, now, 0
        self.window = Window(dependency.window)
        self._changes = self._probing = self._succeeded = 0
        self._probed = now

    def refuses(self, now: float) -> bool:
        """Whether a call would not be let through."""
        match self.circuit:
            case Circuit.CLOSED:
                return False
            case Circuit.OPEN:
                return now < self.next_probe
            case Circuit.HALF_OPEN:
                return self._probing + self._succeeded >= self.dependency.probes and not self._is_probe_lost(now)

    def admit(self, now: float) -> Permit | None:
        """Let a call through, whose end is to be told with the permit; None: it must not be made."""
        if self.refuses(now):
            return None
        if self.circuit is Circuit.OPEN or self._is_probe_lost(now):
            self._turn(Circuit.HALF_OPEN, now)
        if self.circuit is Circuit.HALF_OPEN:
            self._probing, self._probed = self._probing + 1, now
        return self._changes

    def succeeded(self, permit: Permit, now: float) -> None:
        """The dependency answered."""
        if permit != self._changes:
            return
        if self.circuit is Circuit.CLOSED:
            self.window.note(now, failed=False)
            return
        self._probing, self._succeeded = self._probing - 1, self._succeeded + 1
        if self._succeeded == self.dependency.probes:
            self._turn(Circuit.CLOSED, now)

    def failed(self, permit: Permit, now: float) -> None:
        """The dependency did not do what it is there for."""
        if permit != self._changes:
            return
        if self.circuit is Circuit.CLOSED:
            self.window.note(now, failed=True)
        if self.circuit is Circuit.HALF_OPEN or self._is_too_much(now):
            self._turn(Circuit.OPEN, now)

    def abandoned(self, permit: Permit) -> None:
        """The call ended in a way that tells nothing of the dependency."""
        if permit == self._changes and self.circuit is Circuit.HALF_OPEN:
            self._probing -= 1

    @property
    def next_probe(self) -> float:
        """When an open one lets a call through again."""
        return self.since + self.dependency.pause

    def wait(self, now: float, chance: float) -> float:
        """Seconds for which to put off what needs the dependency: until it may be probed, and then a random part of a spread.

        `chance` is in [0, 1). The spread is the pause, twice as long with each opening in a row, up to eight times.
        """
        until_probe = max(0.0, self.next_probe - now) if self.circuit is Circuit.OPEN else 0.0
        return until_probe + chance * self.dependency.pause * 2.0 ** min(max(self.openings - 1, 0), DOUBLINGS)

    def _is_probe_lost(self, now: float) -> bool:
        """Whether probes have been silent for so long that others are to be sent."""
        return self.circuit is Circuit.HALF_OPEN and self._probing > 0 and now >= self._probed + self.dependency.pause

    def _is_too_much(self, now: float) -> bool:
        calls, failures = self.window.counted(now)
        return calls >= self.dependency.minimum_calls and failures >= self.dependency.failure_rate * calls

    def _turn(self, circuit: Circuit, now: float) -> None:
        self.circuit, self.since, self._changes = circuit, now, self._changes + 1
        self._probing = self._succeeded = 0
        match circuit:
            case Circuit.CLOSED:
                self.window, self.openings = Window(self.dependency.window), 0
            case Circuit.OPEN:
                self.openings += 1


class Window:
    """Calls and failures of the last `length` seconds, counted by slices of a tenth of it, so in bounded memory."""

    def __init__(self, length: float) -> None:
        self._slice = length / SLICES
        self._slices: deque[list[int]] = deque()

    def note(self, now: float, *, failed: bool) -> None:
        self._slide(now)
        current = int(now / self._slice)
        if not self._slices or self._slices[-1][0] != current:
            self._slices.append([current, 0, 0])
        self._slices[-1][1] += 1
        self._slices[-1][2] += failed

    def counted(self, now: float) -> tuple[int, int]:
        """(calls, failures among them)."""
        self._slide(now)
        return sum(calls for _, calls, _ in self._slices), sum(failures for _, _, failures in self._slices)

    def _slide(self, now: float) -> None:
        oldest = int(now / self._slice) - SLICES
        while self._slices and self._slices[0][0] <= oldest:
            self._slices.popleft()
