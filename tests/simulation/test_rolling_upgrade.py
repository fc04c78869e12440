"""A fleet learns a new version of its saga one participant after the other, in every order, while workflows run.

Some of the deployments are taken back in between. Whoever does not know a version keeps its events until it does.
"""

from __future__ import annotations

import random
from collections import Counter
from itertools import permutations

import pytest

from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.testing.harness import Harness
from tests.seeds import some_slow
from tests.travel import Script, TripBooked, effects, fleet, harness

NAMES = ("agency", "hotels", "airline", "bank")
STEPS = {1: {"hotel", "flight", "pay"}, 2: {"hotel", "flight", "insure", "pay"}}


ORDERS = list(permutations(NAMES))


@pytest.mark.parametrize("order", some_slow(ORDERS, 4), ids="-".join)
def test_a_new_version_may_be_deployed_in_any_order_under_load(order: tuple[str, ...]) -> None:
    external = ORDERS.index(order) % 3 == 0
    dice = random.Random("-".join(order))
    script = Script(failing={(dice.choice(["hotel", "flight", "pay"]), f"trip {n}") for n in range(40) if dice.random() < 0.3})
    releases = {p.name: p for p in fleet(script, versions=(1, 2), external=external)}

    with harness(script, external=external) as running:
        upgrade = _Upgrade(running, dice)
        for name in order:
            upgrade.work()
            running.deploy(releases[name])
            upgrade.work()
        upgrade.calm()

        assert not running.stopped()
        assert (upgrade.unknown > 0) == (order[-1] != "agency")
        versions = Counter(_ended(running, workflow) for workflow in upgrade.workflows)
        assert set(versions) == {1, 2}
        assert {effect: n for effect, n in Counter(effects(running)).items() if n > 1} == {}


class _Upgrade:
    """Workflows that begin and go on while the fleet changes."""

    def __init__(self, running: Harness, dice: random.Random) -> None:
        self.running, self.dice = running, dice
        self.workflows: list[str] = []
        self.unknown = 0

    def work(self) -> None:
        for _ in range(4):
            trip = f"trip {len(self.workflows)}"
            self.workflows.append(self.running.start(TripBooked(trip=trip), workflow_id=f"w{len(self.workflows)}"))
            for _ in range(self.dice.randint(1, 6)):
                self.running.turn(self.dice.choice(NAMES))
        self.unknown += sum(loop.processor.intake.counts.dead for loop in self.running.loops.values())

    def calm(self) -> None:
        self.running.settle()
        self.running.advance(301)


def _ended(running: Harness, workflow: str) -> int:
    """The version in which the workflow ended, the same and whole for all."""
    ends = [running.workflow(name, workflow) for name in NAMES]
    [version] = {end.version for end in ends if end}
    [status] = {end.status if end and end.closed else None for end in ends}
    steps = {step: fence.status for end in ends if end for step, fence in end.fences.items()}
    assert status in {WorkflowStatus.COMPLETED, WorkflowStatus.COMPENSATED}, (workflow, ends)
    assert (StepStatus.DONE in steps.values()) == (status is WorkflowStatus.COMPLETED)
    done = {step for id_, step, act in effects(running) if id_ == workflow and act == "action"}
    if status is WorkflowStatus.COMPLETED:
        assert done - {"confirm"} == STEPS[version]
    return version
