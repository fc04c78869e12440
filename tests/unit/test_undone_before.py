"""Two steps of one participant, one after the other, are undone in turn, also where undoing the former fails after the latter.

Both are undone in one transaction, which the failure takes back: what is undone first is to stay undone all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from saga import Retry
from saga.replay.contracts import Contracts
from saga.testing.checker.evidence import Evidence
from saga.testing.checker.judgement import judge
from saga.testing.harness import Harness
from tests.kitchen import CREATE_UNDONE, Placed, participants

HOPELESS = Retry(attempts=1)
PATIENT = Retry(attempts=5, quick=0, first=10)


Fleet = Callable[..., Harness]


@pytest.fixture(params=[False, True], ids=["one by one", "vectorised"])
def declined(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Makes fleets in which the bank has declined an order `w1`."""
    with ExitStack() as stack:

        def make(broken: set[str], retry: Retry = HOPELESS, on_stuck: str = "wait", payer: str = "bank") -> Harness:
            crew = participants(broken, retry, on_stuck, batch=request.param, payer=payer)
            fleet = stack.enter_context(Harness(*crew))
            with fleet.transaction("kitchen") as tx:
                tx.execute(CREATE_UNDONE)
            fleet.start(Placed(order_id="soup"), workflow_id="w1")
            fleet.settle()
            return fleet

        yield make


def undone(fleet: Harness) -> list[str]:
    with fleet.transaction("kitchen") as tx:
        return [step for (step,) in tx.execute("SELECT step FROM undone").fetchall()]


def violations(fleet: Harness) -> list[str]:
    return [str(each) for each in judge(Evidence.gather(Contracts([fleet.saga]), fleet.broker, fleet.stores)).violations]


@pytest.mark.parametrize(("on_stuck", "root"), [("wait", "done"), ("continue", "compensated")])
def test_what_follows_a_step_is_undone_before_its_own_compensation_is_stuck(declined: Fleet, on_stuck: str, root: str) -> None:
    fleet = declined({"cook"}, on_stuck=on_stuck)

    assert fleet.steps("w1") == {"place": root, "cook": "stuck", "pack": "compensated", "pay": "failed"}
    assert undone(fleet) == ["pack"]
    assert violations(fleet) == []


def test_a_stuck_compensation_that_is_retried_undoes_each_step_once(declined: Fleet) -> None:
    broken = {"cook"}
    fleet = declined(broken)
    broken.clear()

    with fleet.transaction("kitchen") as tx:
        fleet.participants["kitchen"].retry("w1", tx)
    fleet.settle()

    assert fleet.steps("w1")["place"] == "compensated"
    assert undone(fleet) == ["pack", "cook"]
    assert violations(fleet) == []


def test_both_may_fail_and_are_undone_in_turn_all_the_same(declined: Fleet) -> None:
    broken = {"pack", "cook"}
    fleet = declined(broken, PATIENT)
    assert (fleet.steps("w1")["pack"], undone(fleet)) == ("done", [])

    broken.remove("pack")
    for _ in range(10):
        fleet.advance(600)

    assert (fleet.steps("w1")["cook"], undone(fleet)) == ("stuck", ["pack"])

    broken.remove("cook")
    with fleet.transaction("kitchen") as tx:
        fleet.participants["kitchen"].retry("w1", tx)
    fleet.settle()

    assert (fleet.steps("w1")["place"], undone(fleet)) == ("compensated", ["pack", "cook"])
    assert violations(fleet) == []


@pytest.mark.parametrize("which", [("cook",), ("pack",), ("cook", "pack")], ids=" ".join)
def test_a_step_that_fails_and_has_others_of_its_own_undone_holds_up_nobody(declined: Fleet, which: tuple[str, ...]) -> None:
    broken = {*which}
    fleet = declined(broken, PATIENT, payer="kitchen")
    for _ in range(10):
        fleet.advance(600)

    assert (fleet.steps("w1")[which[-1]], fleet.steps("w1")["pay"]) == ("stuck", "failed")
    broken.clear()
    with fleet.transaction("kitchen") as tx:
        fleet.participants["kitchen"].retry("w1", tx)
    fleet.settle()

    assert (fleet.steps("w1")["place"], undone(fleet)) == ("compensated", ["pack", "cook"])
    assert violations(fleet) == []


class Moody(set[str]):
    """Undoing `pack` succeeds the first time, and not when it is done once more since the oven is away."""

    asked = 0

    def __contains__(self, step: object) -> bool:
        self.asked += step == "pack"
        return super().__contains__(step) or (step == "pack" and 1 < self.asked < 4)


@pytest.mark.parametrize("payer", ["bank", "kitchen"])
def test_what_fails_as_it_is_done_once_more_for_a_dependency_that_is_away_loses_no_fact(declined: Fleet, payer: str) -> None:
    broken = Moody({"oven"})
    fleet = declined(broken, PATIENT, payer=payer)
    broken.clear()
    for _ in range(10):
        fleet.advance(600)

    assert fleet.steps("w1") == {"place": "compensated", "cook": "compensated", "pack": "compensated", "pay": "failed"}
    assert undone(fleet) == ["pack", "cook"]
    assert violations(fleet) == []
