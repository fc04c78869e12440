"""A fleet whose steps are vectorised does and says what the same fleet does and says that takes one event at a time."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from saga import Retry
from saga.testing.harness import Harness
from tests.seeds import seeds
from tests.travel import Script, TripBooked, effects, harness

TRIPS = 24
HOPELESS = 1000


class Life(NamedTuple):
    """What became of all workflows: how each stands at each participant, headers and bytes of all records, what was done."""

    ends: dict[tuple[str, str], str]
    facts: dict[str, list[tuple[list[tuple[str, bytes | None]], bytes | None]]]
    effects: list[tuple[str, str, str]]


@seeds(20, fast=6)
def test_the_same_workflows_end_the_same_with_the_same_facts_and_effects(seed: int) -> None:
    assert _lived(seed, vectorised=True) == _lived(seed, vectorised=False)


@pytest.mark.slow
def test_workflows_really_end_both_ways_and_are_parked() -> None:
    ends = {status for seed in range(6) for status in _lived(seed, vectorised=True).ends.values()}

    assert {"completed", "compensated", "in_progress"} <= ends


def _lived(seed: int, *, vectorised: bool) -> Life:
    """Starts and aborts come in bursts; steps fail, are unlucky once, or never succeed."""
    dice = random.Random(seed)
    steps = ["hotel", "flight", "pay", "free_hotel", "free_flight"]
    script = Script(
        failing={(dice.choice(steps[:3]), f"w{number}") for number in range(TRIPS) if dice.random() < 0.4},
        raising={(dice.choice(steps), f"w{n}"): dice.choice([1, HOPELESS]) for n in range(TRIPS) if dice.random() < 0.3},
    )
    with harness(script, vectorised=vectorised, retry=Retry(attempts=4, first=5)) as fleet:
        begun = 0
        while begun < TRIPS:
            begun = _burst(fleet, dice, begun)
        fleet.advance(120)
        return _life(fleet)


def _burst(fleet: Harness, dice: random.Random, begun: int) -> int:
    """So many more workflows, now and then an abort behind them, then some turns of anybody."""
    until = min(TRIPS, begun + dice.randint(1, 8))
    for number in range(begun, until):
        fleet.start(TripBooked(trip=f"w{number}"), workflow_id=f"w{number}")
    if dice.random() < 0.5:
        fleet.abort(f"w{dice.randrange(begun, until)}", by="agency")
    for _ in range(dice.randint(0, 12)):
        fleet.turn(dice.choice([*fleet.loops]))
    return until


def _life(fleet: Harness) -> Life:
    ids = [f"w{number}" for number in range(TRIPS)]
    known = {(name, id): fleet.workflow(name, id) for name in fleet.stores for id in ids}
    facts: dict[str, list[tuple[list[tuple[str, bytes | None]], bytes | None]]] = {id: [] for id in ids}
    for log in fleet.facts():
        for record in log:
            facts[(record.key or b"").decode()].append((sorted(record.headers), record.value))
    return Life(
        ends={about: str(workflow.status) for about, workflow in known.items() if workflow},
        facts={id: sorted(told) for id, told in facts.items()},
        effects=effects(fleet),
    )
