"""The pulse of one thread: that it turns, or what it waits for. One thread writes, any may read."""

from __future__ import annotations

from saga.clock import Clock
from saga.engine.health import Part, State

SLOW = 30.0
STALLED = 300.0  # librdkafka's `max.poll.interval.ms`: after it the group has given the lanes away


class Pulse:
    """`at` (monotonic) is the latest sign of life; `waiting` is what the thread waits for before it has lanes."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name, self.clock = name, clock
        self.at = clock.monotonic()
        self.waiting: str | None = "has not turned yet"

    def beat(self, waiting: str | None = None) -> None:
        """Say that the thread goes on, and what it waits for if it does."""
        self.at, self.waiting = self.clock.monotonic(), waiting

    @property
    def age(self) -> float:
        """Seconds since the latest sign of life."""
        return self.clock.monotonic() - self.at

    def part(self, doing: str | None, failing: str | None = None) -> Part:
        """How the thread is; `doing` names the handler that it is in, `failing` tells what it fails at though it turns."""
        busy = f", in {doing}" if doing else ""
        if self.age > STALLED:
            text = f"has not turned for {self.age:.0f} s{busy}; Kafka gives its lanes to others: start a new process"
            return Part(self.name, State.DEAD, text)
        if self.age > SLOW:
            return Part(self.name, State.DEGRADED, f"has not turned for {self.age:.0f} s{busy}")
        if (trouble := self.waiting or failing) is not None:
            return Part(self.name, State.DEGRADED, trouble)
        return Part(self.name, State.READY, f"turned {self.age:.1f} s ago")
