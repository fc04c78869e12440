"""What every store must do with records that cannot be taken in."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from saga.store.dead_letter import DeadLetter, LetterSearch, LetterState, Place, Reason
from saga.store.port import Unit
from tests.contract.conftest import ArchivedStore

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def letter(offset: int = 0, *, partition: int = 0, saga: str = "checkout", **fields: Any) -> DeadLetter:
    whole: dict[str, Any] = {"key": b"w1", "value": b"\x00\xff", "headers": (), "recorded": NOW}
    known: dict[str, Any] = {**whole, "reason": Reason.HEADERS, "error": "none", **fields}
    return DeadLetter(place=Place(saga, f"{saga}.events", partition, offset), **known)


def bury(store: ArchivedStore, *letters: DeadLetter) -> None:
    with store.unit() as unit:
        unit.bury(letters)


def found(store: ArchivedStore, limit: int = 10, **wanted: Any) -> list[DeadLetter]:
    with store.unit() as unit:
        known = unit.letters(LetterSearch(**wanted), limit)
    assert store.letters(LetterSearch(**wanted), limit) == known
    return known


def offsets(letters: list[DeadLetter]) -> list[int]:
    return [one.place.offset for one in letters]


def test_a_letter_is_kept_as_it_was_to_the_byte(store: ArchivedStore) -> None:
    full = letter(
        2**40,
        partition=3,
        key=b"\x00\xfe",
        headers=(("ce_id", b"\xff\x00"), ("ce_id", None), ("Ü\x01", b"")),
        reason=Reason.UNKNOWN_VERSION,
        error="version 7 ☂",
        workflow_id="w1",
        version=2**31 - 1,
        state=LetterState.REQUEUED,
        changed=NOW + timedelta(microseconds=1),
        changed_by="ann",
        note="deployed",
    )
    empty = letter(1, key=None, value=None)

    bury(store, full, empty)

    assert found(store) == [empty, full]


def test_a_letter_is_kept_once_whoever_brings_it_again(store: ArchivedStore) -> None:
    bury(store, letter(error="first"), letter(error="second"))
    bury(store, letter(error="third"))

    assert [one.error for one in found(store)] == ["first"]


def test_letters_of_a_unit_that_is_rolled_back_are_not_there(store: ArchivedStore) -> None:
    with suppress(ZeroDivisionError), store.unit() as unit:
        unit.bury([letter()])
        1 / 0  # noqa: B018

    assert found(store) == []


def test_a_letter_taken_back_is_gone_and_may_be_kept_anew_in_the_same_transaction(store: ArchivedStore) -> None:
    bury(store, letter(1, error="old"), letter(2))

    with store.unit() as unit:
        unit.exhume([letter(1).place, letter(2).place])
        unit.bury([letter(1, error="new")])

    assert [one.error for one in found(store)] == ["new"]


@pytest.mark.parametrize("waiting", [LetterState.REQUEUED, LetterState.WAITING])
def test_a_letter_that_cannot_be_taken_in_after_all_waits_since_it_came_and_with_who_had_it_requeued(
    store: ArchivedStore, waiting: LetterState
) -> None:
    decided: dict[str, Any] = {"changed": NOW + timedelta(hours=1), "changed_by": "ann", "note": None}
    bury(store, letter(reason=Reason.UNKNOWN_VERSION, version=2, state=waiting, **decided))

    anew: dict[str, Any] = {"reason": Reason.CONTRADICTION, "error": "new", "workflow_id": "w1", "version": 2}
    bury(store, letter(**anew, recorded=NOW + timedelta(hours=2)))

    assert found(store) == [letter(**anew, **decided)]


def test_a_letter_that_was_given_up_meanwhile_stays_so(store: ArchivedStore) -> None:
    bury(store, given_up := letter(state=LetterState.DISCARDED, changed=NOW, changed_by="ann", note="nobody's"))
    bury(store, letter(error="new"))

    assert found(store) == [given_up]


def recalled(unit: Unit, *lanes: int, versions: tuple[int, ...] = (), limit: int = 10) -> list[int]:
    return offsets(unit.recalled("checkout", lanes, versions, limit))


def test_recalled_are_the_requeued_and_those_of_a_version_that_is_known_now_as_they_came(store: ArchivedStore) -> None:
    waiting: dict[str, Any] = {"reason": Reason.UNKNOWN_VERSION, "version": 2}
    bury(
        store,
        letter(1, **waiting, recorded=NOW + timedelta(seconds=1)),
        letter(2, state=LetterState.REQUEUED),
        letter(3, **{**waiting, "version": 3}),
        letter(4, **waiting, state=LetterState.DISCARDED),
        letter(5),
        letter(6, **waiting, partition=1),
        letter(7, **waiting, saga="returns"),
    )

    with store.unit() as unit:
        assert recalled(unit, 0, versions=(1, 2)) == [2, 1]
        assert recalled(unit, 0, 1, versions=(2, 3)) == [2, 3, 6, 1]
        assert recalled(unit, 0, versions=(2,), limit=1) == [2]
        assert recalled(unit, 1) == recalled(unit, versions=(2,)) == []


def test_what_waits_for_a_version_counts_as_not_handled(store: ArchivedStore) -> None:
    waiting: dict[str, Any] = {"reason": Reason.UNKNOWN_VERSION, "version": 2}
    discarded = letter(4, **waiting, state=LetterState.DISCARDED)
    bury(store, letter(1, **waiting), letter(2, **waiting, partition=1), letter(3), discarded)

    with store.unit() as unit:
        assert unit.parked("checkout", 0) == [("checkout.events", 1)]


def test_a_decision_says_who_when_and_why(store: ArchivedStore) -> None:
    bury(store, letter(1), letter(2))

    with store.unit() as unit:
        unit.settle([letter(1)], LetterState.DISCARDED, NOW + timedelta(hours=1), by="ann", note="a test record")

    decided = replace(
        letter(1), state=LetterState.DISCARDED, changed=NOW + timedelta(hours=1), changed_by="ann", note="a test record"
    )
    assert found(store) == [decided, letter(2)]


def test_a_decision_on_what_somebody_else_has_decided_about_since_changes_nothing(store: ArchivedStore) -> None:
    bury(store, letter(1), letter(2))
    with store.unit() as unit:
        unit.settle([letter(1)], LetterState.REQUEUED, NOW, by="ann", note=None)

    with store.unit() as unit:
        unit.settle([letter(1), letter(2)], LetterState.DISCARDED, NOW, by="bob", note="known")

    assert [(one.state, one.changed_by) for one in found(store)] == [
        (LetterState.REQUEUED, "ann"), (LetterState.DISCARDED, "bob"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [1, 2, 3]),
        ({"saga": "returns"}, [3]),
        ({"topic": "checkout.events"}, [1, 2]),
        ({"partition": 1}, [2]),
        ({"offset": 3}, [3]),
        ({"reason": Reason.KEY}, [2]),
        ({"state": LetterState.EXPORTED}, [3]),
        ({"workflow_id": "w2"}, [2]),
        ({"reason": Reason.KEY, "saga": "returns"}, []),
    ],
)
def test_letters_are_found_by_what_a_person_knows_of_them(
    store: ArchivedStore, wanted: dict[str, Any], expected: list[int]
) -> None:
    bury(
        store,
        letter(1),
        letter(2, partition=1, reason=Reason.KEY, workflow_id="w2"),
        letter(3, saga="returns", state=LetterState.EXPORTED),
    )

    assert offsets(found(store, **wanted)) == expected


def test_no_more_letters_are_found_than_asked_the_oldest_first(store: ArchivedStore) -> None:
    bury(store, *(letter(n, recorded=NOW - timedelta(seconds=n)) for n in range(3)))

    assert offsets(found(store, 2)) == [2, 1]


def test_what_was_given_up_before_a_moment_is_forgotten_the_longest_ago_first_and_nothing_else(store: ArchivedStore) -> None:
    old, later = NOW + timedelta(days=1), NOW + timedelta(days=2)
    bury(
        store,
        letter(1, state=LetterState.DISCARDED, changed=later - timedelta(seconds=1)),
        letter(2, state=LetterState.EXPORTED, changed=old),
        letter(3, state=LetterState.REQUEUED, changed=old),
        letter(4),
        letter(5, state=LetterState.DISCARDED, changed=later),
        letter(6, state=LetterState.DISCARDED, changed=old, saga="returns"),
    )

    with store.unit() as unit:
        first = unit.forget("checkout", later, 1)
    left_by_the_first = sorted(offsets(found(store)))
    with store.unit() as unit:
        second, third = unit.forget("checkout", later, 10), unit.forget("checkout", later, 10)

    assert (first, second, third) == (1, 1, 0)
    assert left_by_the_first == [1, 3, 4, 5, 6]
    assert sorted(offsets(found(store))) == [3, 4, 5, 6]


def test_a_letter_forgotten_in_a_unit_that_is_rolled_back_is_there(store: ArchivedStore) -> None:
    bury(store, letter(1, state=LetterState.DISCARDED, changed=NOW))

    with suppress(ZeroDivisionError), store.unit() as unit:
        unit.forget("checkout", NOW + timedelta(days=1), 10)
        1 / 0  # noqa: B018

    assert offsets(found(store)) == [1]
