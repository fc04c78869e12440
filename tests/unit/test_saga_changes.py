"""What needs a new version of the saga is decided by the checker; each change in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import pytest

from saga import Saga
from saga.evolution.change import Verdict
from saga.evolution.choreography import saga_changes
from saga.evolution.diff import diff
from tests.commands import schemas
from tests.optional import needs

STEPS: list[dict[str, Any]] = [
    {"name": "place", "by": "orders", "emits": ["Placed"], "compensated": "Cancelled"},
    {"name": "reserve", "by": "stock", "on": ["Placed"], "emits": ["Reserved"], "fails": "Sold", "compensated": "Released",
     "timeout": "PT1M"},
    {"name": "pay", "by": "bank", "on": ["Reserved"], "emits": ["Paid"], "fails": "Declined", "pivot": True, "timeout": "PT1M"},
    {"name": "close", "by": "orders", "on": ["Paid"], "emits": ["Closed"]},
]  # fmt: skip

Edit = Callable[[list[dict[str, Any]], dict[str, Any]], None]


def built(edit: Edit = lambda steps, saga: None) -> Saga:
    steps = deepcopy(STEPS)
    attributes: dict[str, Any] = {}
    edit(steps, attributes)
    *events, own = schemas(*steps)
    own["saga"] |= attributes
    own["saga"] = {key: value for key, value in own["saga"].items() if value is not None}
    return Saga.of(*events, own)


def step(number: int, **changes: Any) -> Edit:
    def edit(steps: list[dict[str, Any]], _: dict[str, Any]) -> None:
        steps[number] = {key: value for key, value in (steps[number] | changes).items() if value is not Ellipsis}

    return edit


def saga(**changes: Any) -> Edit:
    return lambda _, attributes: attributes.update(changes)


def _wrap(steps: list[dict[str, Any]], _: dict[str, Any]) -> None:
    wrap = {"name": "wrap", "by": "stock", "on": ["Paid"], "emits": ["Wrapped"]}
    steps[3:] = [wrap, steps[3] | {"on": ["Wrapped"]}]


def _without_reserve(steps: list[dict[str, Any]], _: dict[str, Any]) -> None:
    steps[1:3] = [steps[2] | {"on": ["Placed"]}]


def _pivot_first(steps: list[dict[str, Any]], _: dict[str, Any]) -> None:
    steps[1] = steps[1] | {"pivot": True}
    del steps[1]["compensated"]
    del steps[2]["pivot"], steps[2]["fails"]


NEW, FINE, NO = Verdict.NEW_VERSION, Verdict.COMPATIBLE, Verdict.REFUSED
CASES: Mapping[str, tuple[Edit, Verdict, str]] = {
    "step added": (_wrap, NEW, "step wrap: it was added, and participants of before would not wait for it"),
    "step removed": (_without_reserve, NEW, "step reserve: it was removed, and workflows under way would wait for it"),
    "owner changed": (
        step(1, by="depot"), NEW, "step reserve: depot owns it now, and not stock: both would do it for workflows under way"
    ),
    "trigger changed": (
        step(3, on=["Paid", "Reserved"]), NEW, "step close: it was triggered by Paid and is by Paid and Reserved"
    ),
    "emits changed": (step(3, emits=["Done"]), NEW, "step close: it emitted Closed and emits Done"),
    "fails added": (
        step(0, fails="Refused"), NEW, "step place: it may fail now, with Refused, and others were told that it does not"
    ),
    "fails removed": (
        step(1, fails=None), NEW, "step reserve: it may not fail any more, and workflows under way may hold its Sold"
    ),
    "fails changed": (step(1, fails="Gone"), NEW, "step reserve: it failed with Sold and fails with Gone"),
    "compensation changed": (
        step(1, compensated="Freed"), NEW, "step reserve: its undoing was reported by Released and is by Freed"
    ),
    "nothing to undo": (
        step(1, compensated=None),
        NEW,
        "step reserve: its undoing was reported by Released and is by nothing, since there is nothing to undo",
    ),
    "pivot moved": (
        _pivot_first, NEW, "step reserve: it was before the pivot and is the pivot: what can still be undone is another"
    ),
    "step moved behind the pivot": (
        _pivot_first, NEW, "step pay: it was the pivot and is after the pivot: what can still be undone is another"
    ),
    "external": (
        step(2, external=True), NEW, "step pay: it calls the world now, so an abort that meets it under way ends otherwise"
    ),
    "gate": (
        step(1, gate="eager"),
        NEW,
        "step reserve: it was behind no gate and is behind the gate eager, for workflows under way too",
    ),
    "timeout shortened": (
        step(1, timeout="PT30S"),
        NEW,
        "step reserve: its timeout went from 1 minute down to 30 seconds: steps that were in time would be late",
    ),
    "timeout removed": (
        step(1, timeout=...), NEW, "step reserve: its timeout of 1 minute is gone: what ended by the clock would wait for ever"
    ),
    "timeout added": (
        step(3, timeout="PT2H"), NEW, "step close: a timeout of 2 hours came: steps that had all the time would unwind"
    ),
    "timeout lengthened": (step(1, timeout="PT90S"), FINE, "step reserve: its timeout went from 1 minute up to 90 seconds"),
    "deadline shortened": (
        saga(deadline="PT5M"),
        NEW,
        "saga checkout: its deadline went from 10 minutes down to 5 minutes: workflows that were in time would be late",
    ),
    "deadline lengthened": (saga(deadline="P1D"), FINE, "saga checkout: its deadline went from 10 minutes up to 1 day"),
    "deadline removed": (
        saga(deadline=None),
        NEW,
        "saga checkout: its deadline of 10 minutes is gone: what ended by the clock would wait for ever",
    ),
    "unwind": (
        saga(unwind="PT1H"), FINE, "saga checkout: the time for unwinding was none and is 1 hour, which only raises alarms"
    ),
    "fails when spent": (
        step(1, on_error="fail"), NEW, "step reserve: it fails when its tries are spent, and stayed parked before"
    ),
    "goes on when stuck": (
        step(1, on_stuck="continue"), NEW, "step reserve: those before it do not wait any more while its compensation is stuck"
    ),
    "not acknowledged": (
        step(1, acknowledged=False),
        FINE,
        "step reserve: its events need no acknowledgment from now on: one that is lost is not noticed",
    ),
    "owner of the contract": (saga(owner="sales"), FINE, "saga checkout: sales answers for it now, and not orders"),
    "name": (
        saga(name="basket"),
        NO,
        "saga checkout: it is called basket now, which renames its topics and groups: that is another saga, "
        "in a folder of its own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_change_is_told_in_one_sentence_with_its_verdict(name: str) -> None:
    edit, verdict, told = CASES[name]

    changes = {str(change): change.verdict for change in saga_changes(built(), built(edit))}

    assert changes[told] is verdict


def test_a_version_never_goes_back() -> None:
    [change] = saga_changes(built(saga(version=2)), built())

    assert change.verdict is NO
    assert str(change) == "saga checkout: its version went back from 2 to 1; a number is never used twice"


def test_what_is_the_same_is_not_mentioned() -> None:
    assert [*saga_changes(built(), built())] == []


@needs("avro")
def test_a_new_version_settles_what_needs_one_and_nothing_else() -> None:
    def shorter(version: int) -> Edit:
        return saga(deadline="PT5M", version=version)

    assert diff(built(), built(shorter(1))).verdict is NEW
    assert diff(built(), built(shorter(2))).verdict is FINE
    assert diff(built(), built(shorter(2))).needed is NEW


@needs("avro")
def test_new_and_vanished_events_are_mentioned_once() -> None:
    changes = [str(change) for change in diff(built(), built(step(3, emits=["Done"]))).changes]

    assert changes == [
        "step close: it emitted Closed and emits Done",
        "Closed: it is no longer among the contracts",
        "Done: it is new",
    ]
