"""What a definition knows of its steps, and what it refuses to be."""

from __future__ import annotations

import pytest

from saga.errors import DefinitionError
from saga.protocol.definition import Step
from tests.simulation.sagas import branching, fork, last, on, saga, step


def test_a_definition_knows_where_it_begins_and_ends() -> None:
    order = branching()

    assert (order.root.name, order.sink.name, order.initiator) == ("order", "close", "shop")
    assert [s.name for s in order.owned("shop")] == ["order", "close"]
    assert order.owned("stranger") == ()
    assert "review" in order
    assert "Review" not in order


def test_steps_follow_each_other_through_events() -> None:
    order = branching()

    assert order.successors["rate"] == ("ship", "review")
    assert order.predecessors["close"] == ("ship", "escort")
    assert order.triggered_by == {
        "Order": ("rate",),
        "Trusted": ("ship",),
        "Doubtful": ("review",),
        "Review": ("escort",),
        "Ship": ("close",),
        "Escort": ("close",),
    }


def test_the_pivots_part_what_can_be_undone_from_what_goes_forward() -> None:
    order = branching()

    assert order.pivots == {"ship", "escort"}
    assert order.after_pivot == {"close"}
    assert order.awaited_reports["rate"] == {"ship", "review"}
    assert order.awaited_reports["ship"] == frozenset()


def test_without_declared_pivots_the_completing_step_is_the_pivot() -> None:
    plain = saga(step("s0", "p0"), last("s1", "p1", on("S0")))

    assert plain.pivots == {"s1"}
    assert plain.after_pivot == frozenset()


def test_a_step_knows_what_it_consumes_and_how_it_may_end() -> None:
    rate = Step(name="rate", by="risk", on=on("A B", "C"), emits=("Good", "Bad"), fails="Rejected")

    assert rate.consumes == {"A", "B", "C"}
    assert rate.outcomes == ("Good", "Bad", "Rejected")


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((step("a", "p"), step("b", "p"), last("c", "p", on("A B"))), "found a, b; expected exactly one root"),
        ((step("a", "p", on("C")), step("c", "p", on("A"))), "steps a, c wait for each other in a circle"),
        ((step("a", "p"), last("b", "p", on("A")), last("c", "p", on("A"))), "found b, c; expected exactly one completing"),
        ((step("a", "p"), last("b", "p", on("A Z"))), "step 'b' waits for 'Z', which no step emits; emitted are A, B"),
        ((step("a", "p"), last("a", "q", on("A"), "B")), "step 'a' is declared twice"),
        ((Step(name="a", by="p"),), "step 'a' emits no event"),
        ((step("a", "p"), last("b", "p", (frozenset(),))), "step 'b' has a trigger without events"),
        ((step("a", "p"), last("b", "p", on("A"), fails="B")), "step 'b' uses 'B' in two meanings"),
        ((step("a", "p"), step("b", "p", on("A")), last("c", "p", on("B"), "A")), "event 'A' is declared twice"),
        (
            (step("a", "p"), step("b", "p", on("A C")), step("c", "p", on("B")), last("d", "p", on("C"))),
            "steps b, c, d wait for each other in a circle",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(steps: tuple[Step, ...], text: str) -> None:
    with pytest.raises(DefinitionError, match=text):
        saga(*steps)


def test_definitions_are_told_apart_by_identity() -> None:
    assert fork() != fork()
