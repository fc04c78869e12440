"""When a failed handler is tried again: attempt and chance in, delay out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga import DefinitionError, Retry


def test_the_wait_doubles_up_to_the_longest() -> None:
    retry = Retry(attempts=8, quick=2, first=0.1, longest=0.5)

    assert [retry.delay(attempt, 1.0) for attempt in range(3, 8)] == [0.1, 0.2, 0.4, 0.5, 0.5]


def test_the_first_tries_are_quick_and_never_more_than_there_are() -> None:
    assert [Retry(attempts=9, quick=2).is_quick(attempt) for attempt in (1, 2, 3)] == [True, True, False]
    assert [Retry(attempts=2, quick=5).is_quick(attempt) for attempt in (1, 2)] == [True, False]
    assert not Retry(quick=0).is_quick(1)


def test_after_the_last_attempt_there_is_no_wait() -> None:
    assert Retry(attempts=3).delay(3, 0.5) is None
    assert Retry(attempts=1).delay(1, 0.5) is None


def test_the_wait_is_a_random_part_of_the_longest_possible() -> None:
    retry = Retry(attempts=3, quick=0, first=0.2)

    assert retry.delay(2, 0.0) == 0.0
    assert retry.delay(2, 0.25) == pytest.approx(0.1)


@given(st.integers(1, 2000), st.floats(0, 1, exclude_max=True))
def test_no_number_of_attempts_makes_the_wait_longer_than_the_longest(attempt: int, chance: float) -> None:
    delay = Retry(attempts=2001, longest=1.5).delay(attempt, chance)

    assert delay is not None
    assert 0 <= delay <= 1.5


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"quick": -1}, {"first": -0.1}, {"first": 2.0, "longest": 1.0}])
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DefinitionError, match="expected attempts of at least 1, quick from 0 to 10, and 0 <= first <= longest"):
        Retry(**wrong)  # type: ignore[arg-type]
