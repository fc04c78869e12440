"""Situations in which participants of one part have changed places are one to the search, and nothing is missed by that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from saga.protocol import explore
from saga.protocol.alike import alike
from saga.protocol.decide import decide
from saga.protocol.definition import Definition
from saga.protocol.explore import Exploration
from saga.protocol.rules import broken_rules
from saga.protocol.story import Problem
from tests.simulation.protocol_world import Decide
from tests.simulation.sagas import GOOD, any_sagas, fork, last, on, saga, step
from tests.simulation.test_protocol_exploration import BROKEN

FEW = settings(max_examples=40, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def twins(**of_one: Any) -> Definition:
    """Two participants between the root and the pivot, of which one may be otherwise than the other."""
    return saga(
        step("root", "owner"),
        step("a", "anne", on("Root"), fails="AFailed"),
        step("b", "bert", on("Root"), **{"fails": "BFailed", **of_one}),
        last("join", "joiner", on("A B"), pivot=True),
    )


def rows_of_two() -> Definition:
    """Each of two participants has two steps, one after the other."""
    steps = [step("root", "owner")]
    for who in ("x", "y"):
        steps += [step(f"{who}1", who, on("Root"), f"{who.upper()}1"), step(f"{who}2", who, on(f"{who.upper()}1"))]
    return saga(*steps, last("join", "joiner", on("X2 Y2"), pivot=True))


def lone(saga: Definition, decide: Decide, monkeypatch: pytest.MonkeyPatch) -> Exploration:
    """The search that takes everybody for one of a kind."""
    with monkeypatch.context() as patch:
        patch.setattr(explore, "alike", lambda saga: [])
        return Exploration(saga, decide)


def length(problem: Problem | None) -> int:
    return len(problem.story) if problem else 0


def test_who_plays_the_same_part_is_told_by_the_choreography() -> None:
    assert alike(fork(3)) == [["p-b0", "p-b1", "p-b2"]]
    assert alike(twins()) == [["anne", "bert"]]
    assert alike(rows_of_two()) == [["x", "y"]]


@pytest.mark.parametrize(
    "of_one",
    [{"fails": None}, {"external": True}, {"on_error": "fail"}, {"on_stuck": "continue"}, {"emits": "B C"}, {"fails": "A"}],
    ids=str,
)
def test_who_differs_in_anything_does_not(of_one: dict[str, Any]) -> None:
    assert alike(twins(**of_one)) == []


def test_one_event_for_both_means_the_same_to_each() -> None:
    assert alike(twins(fails="AFailed")) == [["anne", "bert"]]


def test_nor_does_who_is_awaited_by_somebody_else() -> None:
    one_is_awaited_twice = saga(
        step("root", "owner"),
        step("a", "anne", on("Root")),
        step("b", "bert", on("Root")),
        step("more", "carl", on("A")),
        last("join", "joiner", on("More B"), pivot=True),
    )

    assert alike(one_is_awaited_twice) == []


SYMMETRIC: dict[str, Callable[[], Definition]] = {
    "a fork of three": lambda: fork(3),
    "a fork of three that call the world": lambda: fork(3, external=True),
    "twins": twins,
    "rows of two steps": rows_of_two,
}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_it_counts_all_situations_and_looks_at_fewer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small, full = Exploration(SYMMETRIC[name](), decide), lone(SYMMETRIC[name](), decide, monkeypatch)

    assert small.problem() is full.problem() is None
    assert small.states == full.states == len(full.came)
    assert len(small.came) < 0.75 * full.states


@FEW
@given(definition=any_sagas(most=6))
def test_any_saga_is_judged_alike(definition: Definition, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken_rules(definition):
        return
    small, full = Exploration(definition, decide), lone(definition, decide, monkeypatch)
    found, expected = small.problem(), full.problem()

    assert (found and found.rule, length(found)) == (expected and expected.rule, length(expected))
    assert found is not None or small.states == full.states


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("name", [*SYMMETRIC, *GOOD])
def test_a_broken_protocol_is_found_with_a_story_as_short(name: str, broken: Decide, monkeypatch: pytest.MonkeyPatch) -> None:
    definition = (SYMMETRIC | GOOD)[name]()
    found, expected = Exploration(definition, broken).problem(), lone(definition, broken, monkeypatch).problem()

    assert (found and found.rule, length(found)) == (expected and expected.rule, length(expected))


def test_a_story_names_those_who_did_it() -> None:
    """Where two of the like have changed places on the way, it is still told of the same two."""
    awaits_no_successor = BROKEN[2]
    wide = saga(
        step("root", "owner"),
        *(step(f"b{n}", f"p{n}", on("Root")) for n in range(3)),
        last("join", "joiner", on("B0 B1 B2"), pivot=True),
    )

    problem = Exploration(wide, awaits_no_successor).problem()

    assert problem is not None
    done = [line.split()[2].removesuffix(":") for line in problem.story if " runs " in line and "done" in line]
    assert len(done) == len(set(done)), problem.story


def test_eight_that_work_side_by_side_are_few_enough_for_seconds() -> None:
    told: list[int] = []
    exploration = Exploration(fork(8), decide, told.append)

    assert exploration.problem() is None
    assert exploration.states > 10_000_000
    assert len(exploration.came) < 15_000
    assert len(told) == len(exploration.came)
    assert told == sorted(told)
