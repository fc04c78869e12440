"""Whole fleets under seeded trouble: no promise is broken, rare states are met, a seed is a run, and a failure gets small."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from saga import DefinitionError
from saga.failpoints import Failpoint
from saga.protocol.definition import Definition, Step
from saga.testing.simulation.act import Abort, Act, Join, Stall, Start, Turn, Wait
from saga.testing.simulation.campaign import Campaign, smallest
from saga.testing.simulation.drawing import Kind
from saga.testing.simulation.faulty import DEPARTED
from saga.testing.simulation.shrinking import shrink
from saga.testing.simulation.simulation import Simulation
from saga.testing.simulation.world import World
from tests.drawn import crew
from tests.seeds import seeds
from tests.simulation.sagas import saga
from tests.travel import simulation

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["local", "external", "continue", "vectorised"])
@seeds(35, fast=2)
def test_whatever_happens_no_promise_is_broken(seed: int, kind: str) -> None:
    on_stuck = "continue" if kind == "continue" else "wait"

    run = simulation(external=kind == "external", on_stuck=on_stuck, vectorised=kind == "vectorised").run(seed)

    assert [str(violation) for violation in run.violations] == []


@seeds(30, fast=2)
def test_workflows_that_are_broken_for_good_hold_up_no_other(seed: int) -> None:
    run = simulation(liveness=True).run(seed)

    assert [str(violation) for violation in run.violations] == []


def test_what_a_timeout_behind_the_pivot_has_stuck_waits_for_a_person() -> None:
    late = Step(name="pack", by="depot", on=(frozenset({"Paid"}),), emits=("Packed",), timeout=timedelta(minutes=1))
    pay = Step(name="pay", by="bank", on=(frozenset({"Placed"}),), emits=("Paid",), pivot=True)
    of_orders = saga(Step(name="place", by="shop", emits=("Placed",), compensated="Cancelled"), pay, late)

    runs = [Simulation(crew(of_orders, seed), liveness=True).run(seed) for seed in (6, 7)]

    assert sum(run.seen["a step ends done"] for run in runs) > 0
    assert [str(violation) for run in runs for violation in run.violations] == []


@pytest.mark.slow
@pytest.mark.parametrize("external", [False, True], ids=["local", "external"])
def test_every_rare_state_is_met(external: bool) -> None:
    campaign = Campaign(simulation(external=external))

    for run in campaign.run(range(100, 200), processes=2):  # other seeds than above
        assert run.violations == ()

    states = campaign.rare()
    assert len(states) > 15
    assert [rare.state for rare in states if rare.times == 0] == []


def test_nobody_is_taken_over_in_the_midst_of_the_next_lanes_transaction() -> None:
    of_trips = simulation()
    assert of_trips.begin
    meeting: list[Act] = [Join("hotels"), *[Turn("hotels", process) for _ in range(6) for process in (0, 1)]]
    begun: list[Act] = [*map(Start, range(40)), *[Turn("agency")] * 3]

    with World(of_trips.participants, of_trips.begin, of_trips.prepare, seed=0, partitions=6) as world:
        for act in (*meeting, *begun, Stall("hotels", Failpoint.UNIT_COMMITTED)):
            world.perform(act)

        assert world.died == []
        assert world.seen[DEPARTED]


def test_a_state_that_cannot_come_is_told_as_never_met() -> None:
    campaign = Campaign(simulation(kinds=frozenset({Kind.DUPLICATE}), workflows=1, acts=1))

    [_] = campaign.run([1])

    assert [rare.state for rare in campaign.rare() if rare.times == 0] == ["a fact came twice"]


@pytest.mark.slow
def test_a_seed_is_the_same_run_to_the_letter_in_every_process() -> None:
    code = "from tests.travel import simulation; print(*simulation(external=True).run(17, traced=True).trace, sep='\\n')"
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": number},
            capture_output=True,
            check=True,
            timeout=120,
        ).stdout
        for number in "123"
    }

    assert len(told) == 1
    assert b"states pay done" in told.pop()


@pytest.mark.slow
def test_what_breaks_a_promise_is_told_as_a_run_from_which_nothing_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Definition, "pivots", property(lambda self: frozenset({self.sink.name})))
    planted = simulation(kinds=frozenset({Kind.ABORT}), workflows=3, acts=60)
    broken = next(run for run in map(planted.run, range(200)) if run.violations)

    small = smallest(planted, broken)

    assert small.violations[0].promise == broken.violations[0].promise
    assert len(small.schedule) < len(broken.schedule) / 3
    for left_out in range(len(small.schedule)):
        part = small.schedule[:left_out] + small.schedule[left_out + 1 :]
        promises = {violation.promise for violation in planted.run(broken.seed, part).violations}
        assert small.violations[0].promise not in promises
    assert any("is asked to unwind" in line for line in small.trace)


def test_shrinking_keeps_what_is_needed_together_and_stays_within_its_budget() -> None:
    schedule = tuple(Start(number) for number in range(64))
    trials = []

    def breaks(part: tuple[object, ...]) -> bool:
        trials.append(part)
        return Start(3) in part and Start(60) in part

    assert shrink(schedule, breaks) == (Start(3), Start(60))
    assert len(trials) < 100
    assert len(shrink(schedule, breaks, budget=5)) > 2


def test_acts_are_told_in_words() -> None:
    told = [str(act) for act in (Start(1), Turn("bank"), Turn("bank", 1), Wait(0.5), Abort("agency", 2))]

    assert told == [
        "workflow 1 begins",
        "bank turns",
        "bank (2) turns",
        "0.5 s pass",
        "agency is asked to unwind workflow 2",
    ]


def test_faults_of_an_unknown_name_are_refused() -> None:
    with pytest.raises(DefinitionError, match=r"found fault gremlin; expected some of fail, raise, crash"):
        Kind.read(["crash", "gremlin"])
