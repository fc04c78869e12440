"""What `saga check` proves and refuses, and the stories that it tells."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any

import pytest

from saga.errors import DefinitionError
from saga.protocol.check import check, refusal
from saga.protocol.decide import Action, Compensate, FenceView, Refuse, decide
from saga.protocol.definition import Definition, Step
from saga.protocol.facts import Fact
from saga.protocol.story import render
from tests.simulation.sagas import GOOD, fork, last, on, saga, step


@pytest.mark.parametrize("definition", GOOD.values(), ids=GOOD)
def test_a_sound_saga_holds(definition: Callable[[], Definition]) -> None:
    report = check(definition())

    assert report.verdict == "holds"
    assert report.problems == ()
    assert report.states > 1


@pytest.mark.parametrize("external", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_nine_steps_with_a_fork_of_four_are_few_enough_situations_for_seconds(external: bool) -> None:
    report = check(fork(4, tail=3, external=external))

    assert report.verdict == "holds"
    assert report.states < 40_000


def order(*steps: Step, **more: Any) -> Callable[[], Definition]:
    return lambda: saga(step("order", "shop"), *steps, **more)


BROKEN: dict[str, tuple[Callable[[], Definition], str]] = {
    "no pivot on one of two paths": (
        order(
            step("rate", "risk", on("Order"), "Small Large"),
            last("approve", "clerk", on("Large"), pivot=True),
            last("ship", "depot", on("Small", "Approve")),
        ),
        """\
not one pivot: the path order -> rate -> ship passes no pivot; each path from the root to the completing step \
needs exactly one, \
so that it is clear until when it can be undone
   1. shop starts the workflow: order is done (Order).
   2. risk runs rate: done (Small).
   3. depot runs ship: done (Ship).
   4. The workflow is completed on a path with no pivot.""",
    ),
    "a second pivot": (
        order(last("charge", "bank", on("Order"), pivot=True), last("ship", "depot", on("Charge"), pivot=True)),
        """\
not one pivot: the path order -> charge -> ship passes 2 pivots, charge and ship; each path from the root to \
the completing step \
needs exactly one, so that it is clear until when it can be undone
   1. shop starts the workflow: order is done (Order).
   2. bank runs charge: done (Charge).
   3. depot runs ship: done (Ship).
   4. The workflow is completed on a path with 2 pivots, charge and ship.""",
    ),
    "alternatives over parallel branches": (
        order(
            step("pack", "depot", on("Order")),
            step("charge", "bank", on("Order")),
            last("ship", "depot", on("Pack", "Charge")),
        ),
        """\
alternatives overlap: step 'ship' is triggered by Pack and by Charge in the same run; write one join of them \
all, or let one step \
choose between them
   1. shop starts the workflow: order is done (Order).
   2. depot runs pack: done (Pack).
   3. bank runs charge: done (Charge).
   4. ship of depot is now triggered twice: by Pack and by Charge.""",
    ),
    "a compensation is missing": (
        order(step("pack", "depot", on("Order"), compensated=None), last("ship", "depot", on("Pack"))),
        """\
no compensation: step 'pack' comes before the pivot but names no compensation; name its event with \
'compensated', or write \
"compensated": null where there is nothing to undo
   1. shop starts the workflow: order is done (Order).
   2. depot runs pack: done (Pack).
   3. The deadline passes, or an operator steps in: the workflow is to be aborted.
   4. depot has to undo pack, and there is no way to do so.""",
    ),
    "a step after the pivot fails": (
        order(last("charge", "bank", on("Order"), pivot=True), last("ship", "depot", on("Charge"), fails="Lost")),
        """\
fails after the pivot: step 'ship' fails with Lost, but it comes after a pivot; let the pivot wait for it, or \
let it not fail
   1. shop starts the workflow: order is done (Order).
   2. bank runs charge: done (Charge).
   3. depot runs ship: it fails (Lost), so the workflow is to be aborted.
   4. The pivot is done: the workflow can neither go back nor go on.""",
    ),
    "a step after the pivot fails by itself when its retries are spent": (
        order(last("charge", "bank", on("Order"), pivot=True), last("ship", "depot", on("Charge"), on_error="fail")),
        """\
fails after the pivot: step 'ship' has "on_error": "fail", but it comes after a pivot; let the pivot wait for \
it, or let it not fail
   1. shop starts the workflow: order is done (Order).
   2. bank runs charge: done (Charge).
   3. depot runs ship: it fails (technical error), so the workflow is to be aborted.
   4. The pivot is done: the workflow can neither go back nor go on.""",
    ),
    "a step parallel to the pivot of one branch": (
        order(
            step("rate", "risk", on("Order"), "Small Large"),
            step("pack", "depot", on("Order")),
            last("ship", "depot", on("Small Pack"), pivot=True),
            last("refer", "clerk", on("Large"), pivot=True),
            last("close", "shop", on("Ship", "Refer")),
        ),
        """\
beside the pivot: step 'pack' runs neither before nor after the pivot 'refer', so that nobody can tell whether \
it may be undone; \
let 'refer' wait for its event, or trigger it after 'refer'
   1. shop starts the workflow: order is done (Order).
   2. risk runs rate: done (Large).
   3. clerk runs refer: done (Refer).
   4. refer of clerk is done, so there is no way back; but pack of depot is still open: an abort would skip it.""",
    ),
    "no clock": (
        order(last("ship", "depot", on("Order")), deadline=None),
        """\
waits for ever: step 'ship' has no timeout and the saga has no deadline; give the saga a 'deadline', or the \
step a 'timeout'
   1. shop starts the workflow: order is done (Order).
   2. depot does not answer for ship, and no clock ends the wait.""",
    ),
    "a join of events that exclude each other": (
        order(
            step("rate", "risk", on("Order"), "Small Large"),
            step("odd", "clerk", on("Small Large")),
            last("ship", "depot", on("Small", "Large", "Odd")),
        ),
        """\
never triggered: step 'odd' waits for Large and Small, which no run of the saga brings about; change its 'on'
   1. clerk waits to run odd, but Large and Small never come in one workflow.""",
    ),
    "an event that leads nowhere": (
        order(step("rate", "risk", on("Order"), "Small Large"), last("ship", "depot", on("Small"))),
        """\
deadlock: Nothing more can happen by itself, and for depot, risk and shop the workflow is still open. \
Let every event lead on to the completing step, ship.
   1. shop starts the workflow: order is done (Order).
   2. risk runs rate: done (Large).
   3. Nothing more can happen by itself, and for depot, risk and shop the workflow is still open.""",
    ),
    "a step that the completing step does not wait for": (
        order(
            last("charge", "bank", on("Order"), pivot=True),
            last("pack", "depot", on("Charge")),
            last("file", "books", on("Charge"), "Filed Lost"),
            last("close", "shop", on("Pack Filed", "Lost")),
        ),
        """\
left open: The workflow ends completed, but pack was triggered and is not done. \
Let the completing step, close, wait for every step that can be triggered.
   1. shop starts the workflow: order is done (Order).
   2. bank runs charge: done (Charge).
   3. books runs file: done (Lost).
   4. shop runs close: done (Close).
   5. The workflow ends completed, but pack was triggered and is not done.""",
    ),
}


@pytest.mark.parametrize(("definition", "told"), BROKEN.values(), ids=BROKEN)
def test_a_broken_saga_is_refused_with_its_shortest_story(definition: Callable[[], Definition], told: str) -> None:
    report = check(definition())

    assert report.verdict == "refused"
    assert [render(problem) for problem in report.problems] == [told]


def test_every_broken_rule_is_reported() -> None:
    parallel = saga(
        step("order", "shop"),
        step("pack", "depot", on("Order"), compensated=None),
        last("charge", "bank", on("Order"), pivot=True),
        last("ship", "depot", on("Pack Charge")),
    )

    assert [problem.rule for problem in check(parallel).problems] == ["not one pivot", "beside the pivot", "no compensation"]


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        (
            order(last("ship", "depot", on("Order")), last("pack", "depot", on("Order"))),
            "found ship, pack; expected exactly one completing step",
        ),
        (
            order(last("ship", "depot", on("Ordered"))),
            "step 'ship' waits for 'Ordered', which no step emits; emitted are Order, Ship",
        ),
    ],
    ids=["two completing steps", "an unknown event"],
)
def test_what_is_no_definition_is_refused_with_the_reason(definition: Callable[[], Definition], text: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        definition()

    report = refusal(refused.value)

    assert report.verdict == "refused"
    assert text in render(report.problems[0])


def test_timeouts_of_all_steps_are_as_good_as_a_deadline() -> None:
    timed = order(last("ship", "depot", on("Order"), timeout=timedelta(seconds=30)), deadline=None)

    assert check(timed()).verdict == "holds"


def test_a_broken_protocol_is_told_to_its_end() -> None:
    def ignores_the_pivot(
        saga: Definition, participant: str, facts: Collection[Fact], fences: Mapping[str, FenceView]
    ) -> tuple[Action, ...]:
        actions = decide(saga, participant, facts, fences)
        return tuple(Compensate(a.step) if isinstance(a, Refuse) else a for a in actions)

    [problem] = check(order(step("ship", "depot", on("Order")))(), decide=ignores_the_pivot).problems

    assert problem.rule == "done and undone"
    assert problem.story == (
        "shop starts the workflow: order is done (Order).",
        "depot runs ship: done (Ship).",
        "The deadline passes, or an operator steps in: the workflow is to be aborted.",
        "depot hears of the abort and undoes ship (ShipUndone).",
        "ship is done, so there was no way back; but ship is undone.",
    )
