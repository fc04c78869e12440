"""Who must hear what: the audience of every kind of fact."""

from __future__ import annotations

import pytest

from saga.protocol.facts import Fact, FactStatus, audience
from tests.simulation.sagas import last, on, saga, step

ORDER = saga(
    step("place", "orders", emits="Placed"),
    step("rate", "risk", on("Placed"), "Trusted Doubtful"),
    step("reserve", "stock", on("Placed"), "Reserved"),
    step("review", "clerk", on("Doubtful"), "Reviewed"),
    last("ship", "shipping", on("Reserved Trusted", "Reserved Reviewed"), "Shipped", pivot=True),
    last("bill", "billing", on("Shipped"), "Billed"),
    last("thank", "orders", on("Billed"), "Thanked"),
)
BEFORE_AND_AT_THE_PIVOT = {"orders", "risk", "stock", "clerk", "shipping"}
EVERYONE = BEFORE_AND_AT_THE_PIVOT | {"billing"}


@pytest.mark.parametrize(
    ("step_", "event", "hears"),
    [
        ("place", "Placed", {"risk", "stock"}),
        ("rate", "Trusted", {"shipping"}),
        ("rate", "Doubtful", {"clerk"}),
        ("ship", "Shipped", {"billing"}),
        ("thank", "Thanked", EVERYONE),
    ],
)
def test_an_event_is_for_those_it_may_trigger_and_the_last_one_for_everybody(step_: str, event: str, hears: set[str]) -> None:
    assert audience(ORDER, Fact(step_, FactStatus.DONE, event)) == hears


@pytest.mark.parametrize("status", [FactStatus.ABORT, FactStatus.FAILED, FactStatus.REFUSED])
def test_a_wish_to_abort_and_its_refusal_are_for_those_who_could_still_unwind(status: FactStatus) -> None:
    assert audience(ORDER, Fact("reserve", status)) == BEFORE_AND_AT_THE_PIVOT


def test_the_initiator_hears_of_an_abort_even_if_it_could_not_unwind() -> None:
    headlong = saga(last("go", "ann", (), pivot=True), last("end", "bob", on("Go")))

    assert audience(headlong, Fact("go", FactStatus.ABORT)) == {"ann"}


@pytest.mark.parametrize("status", [FactStatus.SKIPPED, FactStatus.COMPENSATED])
def test_a_report_is_for_the_owners_of_the_steps_just_before(status: FactStatus) -> None:
    assert audience(ORDER, Fact("ship", status)) == {"risk", "stock", "clerk"}
    assert audience(ORDER, Fact("review", status)) == {"risk"}


def test_the_root_undone_is_for_everybody_because_it_ends_the_workflow() -> None:
    assert audience(ORDER, Fact("place", FactStatus.COMPENSATED)) == EVERYONE


def test_stuck_is_for_those_who_wait_and_for_the_initiator() -> None:
    assert audience(ORDER, Fact("review", FactStatus.STUCK)) == {"risk", "orders"}


def test_an_event_that_triggers_nobody_is_for_nobody() -> None:
    assert audience(ORDER, Fact("rate", FactStatus.DONE, "Unheard")) == frozenset()
