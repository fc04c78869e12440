"""The search of `saga check` against a second one that leaves nothing out, and against broken protocols."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest
from hypothesis import given, settings

from saga.protocol.check import check
from saga.protocol.decide import Action, Compensate, FenceView, Refuse, Run, decide
from saga.protocol.definition import Definition
from saga.protocol.explore import Exploration
from saga.protocol.facts import Fact, FactStatus, StepStatus
from saga.protocol.rules import broken_rules
from tests.simulation.protocol_world import Decide, Laws, World, everyone, faults
from tests.simulation.sagas import GOOD, any_sagas, sound_sagas

FEW = settings(max_examples=25, derandomize=True, database=None)
MANY = settings(FEW, max_examples=60)


def ends(laws: Laws) -> tuple[set[World], set[str]]:
    """Every world in which nothing goes on by itself, by trying each fact, action and order one by one; and what is wrong."""
    seen, found, wrong = set(laws.begin()), set(), set()
    waiting = list(seen)
    while waiting:
        world = waiting.pop()
        progress = laws.progress(world)
        if not progress:
            found.add(world)
            wrong |= faults(laws.saga, world)
        for move in (*progress, *laws.aborts(world)):
            wrong |= move.after.faults
            if move.after not in seen and not move.after.faults:
                seen.add(move.after)
                waiting.append(move.after)
    return found, wrong


@pytest.mark.slow
@FEW
@given(sound_sagas(most=4))
def test_the_small_search_and_the_full_one_agree_on_sound_sagas(saga: Definition) -> None:
    _, wrong = ends(Laws(saga))

    assert not wrong
    assert check(saga).verdict == "holds"


@FEW
@given(any_sagas(most=4))
def test_the_small_search_and_the_full_one_agree_on_any_saga(saga: Definition) -> None:
    _, wrong = ends(Laws(saga))

    assert bool(wrong) == bool(Exploration(saga, decide).problem())


@MANY
@given(sound_sagas(most=6))
def test_a_sound_saga_holds(saga: Definition) -> None:
    assert check(saga).verdict == "holds"


@MANY
@given(any_sagas(most=6))
def test_a_saga_that_keeps_the_rules_holds_but_for_dead_ends(saga: Definition) -> None:
    if not broken_rules(saga):
        assert {problem.rule for problem in check(saga).problems} <= {"deadlock"}


@pytest.mark.parametrize("name", ["two steps", "the root is the pivot", "there and back", "one participant owns everything"])
def test_telling_everybody_everything_leads_to_the_same_ends(name: str) -> None:
    saga = GOOD[name]()

    told, _ = ends(Laws(saga))
    all_told, _ = ends(Laws(saga, audience=everyone))

    assert {frozenset(world.fences.items()) for world in told} == {frozenset(world.fences.items()) for world in all_told}


def ignores_the_pivot(
    saga: Definition, participant: str, facts: Collection[Fact], fences: Mapping[str, FenceView]
) -> tuple[Action, ...]:
    actions = decide(saga, participant, facts, fences)
    return tuple(Compensate(action.step) if isinstance(action, Refuse) else action for action in actions)


def forgets_its_tombstone(
    saga: Definition, participant: str, facts: Collection[Fact], fences: Mapping[str, FenceView]
) -> tuple[Action, ...]:
    """Reports a step as skipped, but runs it when its trigger comes."""
    kept = {name: fence for name, fence in fences.items() if fence.status is not StepStatus.SKIPPED}
    late = decide(saga, participant, [f for f in facts if f.status is FactStatus.DONE], kept)
    forgotten = tuple(a for a in late if isinstance(a, Run) and a.step in fences)
    return forgotten or decide(saga, participant, facts, fences)


def awaits_no_successor(
    saga: Definition, participant: str, facts: Collection[Fact], fences: Mapping[str, FenceView]
) -> tuple[Action, ...]:
    imagined = [Fact(s.name, FactStatus.SKIPPED) for s in saga.steps if s.by != participant]
    aborted = any(f.status is FactStatus.ABORT for f in facts)
    return decide(saga, participant, [*facts, *imagined] if aborted else facts, fences)


def skips_after_the_pivot(
    saga: Definition, participant: str, facts: Collection[Fact], fences: Mapping[str, FenceView]
) -> tuple[Action, ...]:
    return tuple(
        action
        for action in decide(saga, participant, facts, fences)
        if not (isinstance(action, Run) and action.step in saga.after_pivot)
    )


BROKEN = [ignores_the_pivot, forgets_its_tombstone, awaits_no_successor, skips_after_the_pivot]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_protocol_is_found(broken: Decide) -> None:
    reports = {name: check(definition(), decide=broken) for name, definition in GOOD.items()}

    assert any(report.verdict == "refused" for report in reports.values())


@pytest.mark.parametrize("broken", BROKEN)
@settings(FEW, max_examples=15)
@given(saga=sound_sagas(most=3))
def test_the_small_search_and_the_full_one_agree_on_broken_protocols(broken: Decide, saga: Definition) -> None:
    _, wrong = ends(Laws(saga, decide=broken))

    assert bool(wrong) == (check(saga, decide=broken).verdict == "refused")
