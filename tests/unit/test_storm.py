"""Thousands of workflows that were parked in one moment: they come back spread out, and keep nothing that is new waiting.

The histograms are printed: `pytest -rP tests/unit/test_storm.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from saga import Participant, Retry
from saga.engine.agenda import DUE_AT_ONCE
from saga.handling.breaker import Breaker
from saga.testing.harness import Harness
from tests.travel import Script, TripBooked, harness, saga

MANY = 10_000
SLICES = 20
UNLIKELY = 43.8
"""The chi-square of 20 equally likely slices exceeds this once in a thousand draws."""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def histogram(what: str, counts: Sequence[int], width: float) -> None:
    print(f"\n{what}: {sum(counts)} in {len(counts)} slices of {width:g} s")
    for number, count in enumerate(counts):
        print(f"{number * width:8.1f} s {count:6} {'#' * (count * 40 // max(counts))}")


def sliced(moments: Sequence[float], begin: float, length: float) -> list[int]:
    counts = [0] * SLICES
    for moment in moments:
        counts[int((moment - begin) / length * SLICES)] += 1
    return counts


def chi_square(counts: Sequence[int]) -> float:
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


def waits_of_retry(chance: Callable[[], float]) -> tuple[list[float], float, float]:
    retry = Retry(quick=0, first=60, longest=60)
    return [delay for _ in range(MANY) if (delay := retry.delay(1, chance())) is not None], 0, 60


def waits_of_breaker(chance: Callable[[], float]) -> tuple[list[float], float, float]:
    desk = Participant("hotels", saga()).dependency("front-desk", minimum_calls=1, pause=30)
    breaker = Breaker(desk, 0)
    permit = breaker.admit(0)
    assert permit is not None
    breaker.failed(permit, 0)
    return [breaker.wait(0, chance()) for _ in range(MANY)], 30, 30


@pytest.mark.parametrize("waits", [waits_of_retry, waits_of_breaker])
def test_ten_thousand_that_are_parked_in_one_moment_are_due_evenly_over_their_spread(waits: Callable[..., Any]) -> None:
    moments, begin, length = waits(random.Random(20101201).random)

    counts = sliced(moments, begin, length)

    histogram(waits.__name__, counts, length / SLICES)
    assert len(moments) == MANY
    assert chi_square(counts) < UNLIKELY


def parked(stack: ExitStack, count: int, **options: Any) -> tuple[Harness, Script]:
    """A fleet, and in it so many hotels that wait for a desk which is back already."""
    script = Script(away={"hotel"})
    fleet = stack.enter_context(harness(script, partitions=1, max_backlog=2 * MANY, **options))
    book(fleet, "early", count)
    turn_all(fleet, "agency", "hotels")
    script.away.clear()
    return fleet, script


def book(fleet: Harness, trip: str, count: int) -> None:
    with fleet.transaction("agency") as tx:
        for number in range(count):
            fleet.participants["agency"].start(TripBooked(trip=trip), tx, workflow_id=f"{trip}-{number}")


def turn_all(fleet: Harness, *participants: str) -> None:
    while any([fleet.turn(name) for name in participants]):
        pass


@pytest.mark.slow
def test_ten_thousand_that_wait_for_a_dependency_call_it_spread_out_once_it_is_back(stack: ExitStack) -> None:
    fleet, script = parked(stack, MANY, chance=random.Random(20101201).random, desk={"pause": 60})
    counts: list[int] = []

    fleet.clock.advance(60)
    for _ in range(SLICES):
        known = len(script.reached["hotel"])
        fleet.clock.advance(60 / SLICES)
        for _ in range(4):  # with at most a batch in each of them
            fleet.turn("hotels")
        counts.append(len(script.reached["hotel"]) - known)

    histogram("calls of the dependency", counts, 60 / SLICES)
    assert sum(counts) == MANY
    assert chi_square(counts) < UNLIKELY


@pytest.mark.slow
def test_those_that_are_due_are_taken_up_in_bounded_batches_between_which_new_records_are_taken_in(stack: ExitStack) -> None:
    fleet, script = parked(stack, 1200, chance=lambda: 0.0, desk={"pause": 60})
    fleet.clock.advance(60)
    book(fleet, "new", 1)
    turn_all(fleet, "agency")
    known = len(script.reached["hotel"])

    fleet.turn("hotels")

    tried = script.reached["hotel"][known:]
    assert tried[0] == "new"
    assert len(tried) == 1 + fleet.loops["hotels"].batch


@pytest.mark.slow
def test_what_is_due_and_slow_gives_way_to_what_is_new_after_a_moment(stack: ExitStack) -> None:
    fleet, script = parked(stack, 500, chance=lambda: 0.0, desk={"pause": 60}, retry=Retry(attempts=99, quick=0))
    fleet.clock.advance(60)
    script.raising["hotel", "early"] = MANY

    def slow(text: str) -> Exception:
        fleet.clock.sleep(0.01)
        return RuntimeError(text)

    script.error = slow
    for turns in range(1, 4):
        known = len(script.reached["hotel"])
        book(fleet, f"new {turns}", 1)
        turn_all(fleet, "agency")
        fleet.turn("hotels")
        tried = script.reached["hotel"][known:]

        assert tried[0] == f"new {turns}"
        assert 0 < tried.count("early") < 2 * DUE_AT_ONCE  # since each that fails is tried again alone
