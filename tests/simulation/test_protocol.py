"""Any saga, any order of facts, any failure, an abort at any time: every workflow ends, and ends the same for everybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from hypothesis import given, note, settings
from hypothesis import strategies as st

from saga.protocol.decide import Close, answer, decide, status
from saga.protocol.definition import Definition
from saga.protocol.facts import Fact, FactStatus, WorkflowStatus, audience
from tests.simulation.protocol_world import Laws, Move, World, everyone, faults
from tests.simulation.sagas import sound_sagas

MANY = settings(max_examples=100, derandomize=True, database=None)
SEEDS = st.integers(0, 2**32)
EAGERNESS = st.sampled_from([0.0, 0.02, 0.2])
"""How likely somebody aborts before each move."""


def run(
    laws: Laws,
    random: Random,
    eagerness: float,
    *,
    start: World | None = None,
    allowed: Callable[[Move], bool] = lambda _: True,
) -> World:
    """Let things happen in a random order, with repetitions, until nothing can happen any more."""
    world = start or (random.choice(laws.begin()) if eagerness else laws.begin()[0])
    while True:
        if eagerness > random.random() and (aborts := laws.aborts(world)):
            world = aborts[0].after
        world = repeated(laws, world, random)
        name = random.choice(laws.names)
        here = [move for move in (*laws.deliveries(world, name), *laws.actions(world, name)) if allowed(move)]
        if not (possible := here or [move for move in laws.progress(world) if allowed(move)]):
            return world
        move = random.choice(possible)
        note(f"{move.kind} {move.subject} ({move.participant})")
        world = move.after
        assert not world.faults


def repeated(laws: Laws, world: World, random: Random) -> World:
    name = random.choice(laws.names)
    known = [f for f in world.published if name in laws.audience(laws.saga, f)]
    return laws.deliver(world, name, random.choice(sorted(known, key=repr))) if known and random.random() < 0.1 else world


@MANY
@given(sound_sagas(), SEEDS, EAGERNESS)
def test_every_workflow_ends_completed_or_compensated_the_same_for_all(saga: Definition, seed: int, eagerness: float) -> None:
    end = run(Laws(saga), Random(seed), eagerness)

    assert not faults(saga, end)


@MANY
@given(sound_sagas(), SEEDS, EAGERNESS)
def test_telling_everybody_everything_changes_no_end(saga: Definition, seed: int, eagerness: float) -> None:
    end = run(Laws(saga, audience=everyone), Random(seed), eagerness)

    assert not faults(saga, end)


@MANY
@given(sound_sagas(), SEEDS, EAGERNESS)
def test_what_the_audience_was_not_told_would_have_changed_nothing(saga: Definition, seed: int, eagerness: float) -> None:
    end = run(Laws(saga), Random(seed), eagerness)

    for name, site in zip(sorted(saga.participants), end.sites, strict=True):
        withheld = [fact for fact in end.published if name not in audience(saga, fact)]
        assert all(answer(saga, name, fact, dict(site.fences)) is None for fact in withheld)
        assert decide(saga, name, end.published, dict(site.fences)) == (Close(site.outcome or WorkflowStatus.FAILED),)


@MANY
@given(sound_sagas(), SEEDS, SEEDS)
def test_without_failure_every_order_leads_to_the_same_fences(saga: Definition, seed: int, other: int) -> None:
    laws = Laws(saga)

    one, two = (run(laws, Random(s), 0.0, allowed=as_planned(saga)) for s in (seed, other))

    assert one.fences == two.fences
    assert one.outcomes == {WorkflowStatus.COMPLETED}


@MANY
@given(sound_sagas(), SEEDS)
def test_an_abort_that_finds_the_pivot_done_undoes_nothing(saga: Definition, seed: int) -> None:
    laws, random = Laws(saga), Random(seed)
    before = run(laws, random, 0.0, allowed=as_planned(saga))

    after = run(laws, random, 0.0, start=laws.aborts(before)[0].after)

    assert {name: fence.status for name, fence in after.fences.items()} == {n: f.status for n, f in before.fences.items()}
    assert {name for name, fence in after.fences.items() if fence.refused} == saga.pivots & set(before.fences)


@MANY
@given(sound_sagas(), SEEDS, EAGERNESS)
def test_what_is_stuck_after_the_pivot_moves_nobody_and_unwinds_nothing(saga: Definition, seed: int, eagerness: float) -> None:
    saga = replace(saga, steps=tuple(replace(step, on_stuck="continue") for step in saga.steps))
    stuck = {Fact(name, FactStatus.STUCK) for name in saga.after_pivot}

    def allowed(move: Move) -> bool:
        for name, site in zip(sorted(saga.participants), move.after.sites, strict=True):
            fences = dict(site.fences)
            assert decide(saga, name, site.facts | stuck, fences) == decide(saga, name, site.facts, fences)
            forward = any(f.status is FactStatus.DONE and f.step in saga.from_pivot for f in site.facts)
            assert not (forward and status(saga, site.facts, fences) is WorkflowStatus.FAILED)
        return True

    run(Laws(saga), Random(seed), eagerness, allowed=allowed)


def as_planned(saga: Definition) -> Callable[[Move], bool]:
    """Nothing fails, and every branch takes its first event."""

    def allowed(move: Move) -> bool:
        if move.kind == "done":
            return move.after.fences[move.subject].event == saga[move.subject].emits[0]
        return move.kind != "failed"

    return allowed
