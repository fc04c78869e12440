"""The circuit breaker: closed, open, half-open, over a clock that a test turns."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga import DefinitionError
from saga.handling.breaker import SLICES, Breaker, Circuit
from saga.participant.dependency import Dependency, needed, seconds

SETTINGS: dict[str, Any] = {
    "name": "courier-api", "errors": (OSError,), "failure_rate": 0.5, "window": 10.0,
    "minimum_calls": 4, "pause": 5.0, "probes": 2,
}  # fmt: skip


def dependency(**changes: Any) -> Dependency:
    return Dependency(**SETTINGS | changes)


def call(breaker: Breaker, now: float, *, fails: bool) -> bool:
    """One call that ends at once; answers whether it was let through."""
    if (permit := breaker.admit(now)) is None:
        return False
    (breaker.failed if fails else breaker.succeeded)(permit, now)
    return True


def opened(now: float = 0.0, **changes: Any) -> Breaker:
    breaker = Breaker(dependency(**changes), now)
    for _ in range(breaker.dependency.minimum_calls):
        call(breaker, now, fails=True)
    return breaker


def test_it_opens_when_enough_of_a_minimum_of_calls_failed() -> None:
    breaker = Breaker(dependency(), 0)

    seen = [(call(breaker, now, fails=fails), breaker.circuit) for now, fails in enumerate([True, False, True, True, True])]

    assert seen == [(True, Circuit.CLOSED)] * 3 + [(True, Circuit.OPEN), (False, Circuit.OPEN)]


def test_failures_that_are_too_rare_do_not_open_it() -> None:
    breaker = Breaker(dependency(), 0)

    for number in range(1000):
        assert call(breaker, number / 100, fails=number % 3 == 2)

    assert breaker.circuit is Circuit.CLOSED


def test_failures_that_are_too_old_do_not_count() -> None:
    breaker = Breaker(dependency(), 0)

    for now in (0, 1, 2, 12, 14, 23):
        call(breaker, now, fails=True)

    assert breaker.circuit is Circuit.CLOSED


def test_after_the_pause_a_bounded_number_of_probes_goes_through() -> None:
    breaker = opened()

    seen = [breaker.admit(now) is not None for now in (4.9, 5.0, 5.1, 5.2)]

    assert seen == [False, True, True, False]
    assert breaker.circuit is Circuit.HALF_OPEN


def test_it_closes_when_all_probes_succeeded_and_forgets_what_was() -> None:
    breaker = opened()

    for now in (5, 6):
        call(breaker, now, fails=False)

    assert (breaker.circuit, breaker.since, breaker.openings) == (Circuit.CLOSED, 6, 0)
    assert breaker.window.counted(6) == (0, 0)


def test_a_probe_that_fails_opens_it_for_another_pause() -> None:
    breaker = opened()

    call(breaker, 5, fails=False)
    call(breaker, 6, fails=True)

    assert (breaker.circuit, breaker.next_probe, breaker.openings) == (Circuit.OPEN, 11, 2)


def test_a_probe_that_tells_nothing_gives_its_place_up() -> None:
    breaker = opened(probes=1)

    permit = breaker.admit(5)
    assert permit is not None
    assert breaker.admit(5.1) is None
    breaker.abandoned(permit)

    assert breaker.admit(5.2) is not None


def test_a_probe_that_is_never_heard_of_again_does_not_keep_it_half_open_for_ever() -> None:
    breaker = opened(probes=1)
    lost = breaker.admit(5)
    assert lost is not None

    assert breaker.admit(9.9) is None
    assert call(breaker, 10, fails=False)

    breaker.failed(lost, 11)
    assert breaker.circuit is Circuit.CLOSED


def test_what_is_heard_of_calls_from_before_it_opened_does_not_count() -> None:
    breaker = Breaker(dependency(), 0)
    early = breaker.admit(0)
    assert early is not None
    for _ in range(4):
        call(breaker, 1, fails=True)

    breaker.succeeded(early, 2)
    assert breaker.admit(3) is None

    assert breaker.admit(6) is not None
    breaker.failed(early, 7)
    assert call(breaker, 8, fails=False)


def test_the_wait_is_until_the_probe_and_a_random_part_of_a_spread_that_grows_with_each_opening_in_a_row() -> None:
    breaker = opened()
    seen = []
    for _ in range(6):
        begin = breaker.since
        seen.append((breaker.wait(begin, 0), breaker.wait(begin + 3, 0), breaker.wait(begin, 0.5)))
        call(breaker, breaker.next_probe, fails=True)

    assert seen == [(5, 2, 7.5), (5, 2, 10), (5, 2, 15), (5, 2, 25), (5, 2, 25), (5, 2, 25)]


EVENTS = st.lists(
    st.tuples(st.sampled_from(["call", "succeed", "fail", "abandon"]), st.floats(0, 6), st.integers(0, 9)), max_size=80
)
TOLERANCES = st.builds(
    dependency,
    failure_rate=st.floats(0.05, 1),
    window=st.floats(0.5, 20),
    minimum_calls=st.integers(1, 6),
    pause=st.floats(0.5, 10),
    probes=st.integers(1, 4),
)


class Observed:
    """A breaker with its calls, and what must hold of them whatever happens."""

    def __init__(self, dependency: Dependency) -> None:
        self.breaker, self.now = Breaker(dependency, 0), 0.0
        self.on_their_way: list[int] = []
        self.told: list[tuple[float, bool]] = []

    def do(self, event: str, passed: float, which: int) -> None:
        self.now += passed
        if event == "call":
            self.call()
        elif self.on_their_way:
            self.end(event, self.on_their_way.pop(which % len(self.on_their_way)))

    def call(self) -> None:
        circuit, open_until = self.breaker.circuit, self.breaker.next_probe
        refused = self.breaker.refuses(self.now)
        permit = self.breaker.admit(self.now)
        assert (permit is None) == refused
        assert permit is not None or circuit is not Circuit.CLOSED
        if circuit is Circuit.OPEN:
            assert (permit is None) == (self.now < open_until)
        if permit is not None:
            self.on_their_way.append(permit)
            if self.breaker.circuit is Circuit.HALF_OPEN:
                assert self.on_their_way.count(permit) <= self.breaker.dependency.probes

    def end(self, event: str, permit: int) -> None:
        before = self.breaker.circuit
        if event == "abandon":
            self.breaker.abandoned(permit)
        else:
            (self.breaker.failed if event == "fail" else self.breaker.succeeded)(permit, self.now)
            self.told.append((self.now, event == "fail"))
        if before is Circuit.CLOSED and self.breaker.circuit is Circuit.OPEN:
            self.opened_for_a_reason()

    def opened_for_a_reason(self) -> None:
        recent = [failed for when, failed in self.told if when >= self.now - self.breaker.dependency.window * (1 + 1 / SLICES)]
        assert len(recent) >= self.breaker.dependency.minimum_calls
        assert any(recent)


@given(TOLERANCES, EVENTS)
def test_whatever_happens_it_lets_through_what_it_may_and_no_more(dependency: Dependency, events: list[Any]) -> None:
    observed = Observed(dependency)

    for event in events:
        observed.do(*event)


@given(TOLERANCES, EVENTS)
def test_wherever_it_stands_it_is_closed_again_after_a_pause_and_its_probes(dependency: Dependency, events: list[Any]) -> None:
    observed = Observed(dependency)
    for event in events:
        observed.do(*event)

    healed = observed.now + dependency.pause
    through = [call(observed.breaker, healed, fails=False) for _ in range(dependency.probes)]

    assert observed.breaker.circuit is Circuit.CLOSED
    assert any(through)


@given(TOLERANCES, st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_without_failures_it_never_refuses(dependency: Dependency, pauses: list[float]) -> None:
    breaker, now = Breaker(dependency, 0), 0.0

    for pause in pauses:
        now += pause
        assert call(breaker, now, fails=False)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"name": " "}, "a word"),
        ({"errors": (KeyboardInterrupt,)}, "classes of exceptions"),
        ({"errors": ("OSError",)}, "classes of exceptions"),
        ({"failure_rate": 0}, "a share above 0"),
        ({"failure_rate": 1.1}, "a share above 0"),
        ({"failure_rate": math.nan}, "a share above 0"),
        ({"window": 0}, "more than 0"),
        ({"pause": -1}, "more than 0"),
        ({"pause": math.inf}, "more than 0"),
        ({"window": "30"}, "more than 0"),
        ({"minimum_calls": 0}, "at least 1"),
        ({"minimum_calls": True}, "at least 1"),
        ({"probes": 1.5}, "at least 1"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], expected: str) -> None:
    with pytest.raises(DefinitionError, match=expected):
        dependency(**wrong)


def test_lengths_of_time_and_needs_may_be_written_in_two_ways() -> None:
    one, other = dependency(), dependency(name="other")

    assert (seconds(timedelta(minutes=1)), seconds(2.5)) == (60, 2.5)
    assert (needed(()), needed(one), needed([one, other])) == ((), (one,), (one, other))
