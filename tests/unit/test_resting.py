"""A thread with nothing to do looks less often, and as often as ever from the first thing on that moves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from saga.engine.loop import REST_AFTER, RESTING, Loop
from saga.testing.harness import Harness
from saga.transport.port import Record
from tests.travel import Script, TripBooked, fleet

WAIT = 0.001


@pytest.fixture
def running() -> Iterator[Harness]:
    """The agency alone."""
    with Harness(*fleet(Script())[:1], partitions=1) as running:
        running.settle()
        yield running


def waits(loop: Loop, monkeypatch: pytest.MonkeyPatch, turns: int = 1) -> list[float]:
    """How long a record was waited for, turn by turn."""
    loop.idle_wait, given, poll = WAIT, [], loop.consumer.poll

    def noted(limit: int, timeout: float) -> list[Record]:
        given.append(timeout)
        return poll(limit, timeout)

    with monkeypatch.context() as patched:
        patched.setattr(loop.consumer, "poll", noted)
        for _ in range(turns):
            loop.turn()
    return given


def test_after_a_while_in_which_nothing_moves_records_are_waited_for_longer(
    running: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = running.loops["agency"]
    assert waits(loop, monkeypatch) == [WAIT]

    running.clock.advance(REST_AFTER + 0.1)

    assert waits(loop, monkeypatch) == [RESTING * WAIT]


def test_once_something_moves_nobody_rests(running: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = running.loops["agency"]
    running.clock.advance(REST_AFTER + 0.1)

    running.start(TripBooked(trip="oslo"))

    assert waits(loop, monkeypatch, turns=2) == [RESTING * WAIT, WAIT]
