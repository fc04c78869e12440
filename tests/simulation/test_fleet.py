"""The whole engine under seeded chaos: crashes at every failpoint, redelivery, aborts, any order of turns.

A failing seed reproduces: `pytest -k 'seed-17'`. A few seeds are run always, the others with the slow tests.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from datetime import timedelta

import pytest

from saga import Refused, Retry
from saga.failpoints import Failpoint, FailpointRaised, armed
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.replay.contracts import Contracts
from saga.store.workflow import Fence
from saga.testing.checker.evidence import Effect, Evidence
from saga.testing.checker.judgement import judge
from saga.testing.harness import Harness
from tests.seeds import seeds
from tests.travel import FlightFreed, HotelFreed, Script, TripBooked, come_again, effects, harness

TRIPS = 12
TURNS = 150
_IDLE = Fence(step="", status=StepStatus.IDLE)


@pytest.mark.parametrize("kind", ["local", "external", "vectorised"])
@seeds(20, fast=2)
def test_whatever_happens_every_workflow_ends_once_and_whole(seed: int, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(seed)
    script = Script(failing=_failures(dice), raising=_mishaps(dice))
    external = kind == "external"

    with harness(script, external=external, vectorised=kind == "vectorised", hold=seed % 3) as fleet:
        chaos = _Chaos(fleet, dice)
        for _ in range(TURNS):
            chaos.turn()
        chaos.calm()

        assert not fleet.stopped()
        _everything_is_handled_and_nothing_was_taken_for_lost(fleet, caplog)
        assert len(chaos.workflows) > 2
        _everything_ended_whole(fleet, chaos.workflows, script, external=external)


@seeds(12, fast=2)
def test_whatever_happened_what_is_forgotten_in_the_end_is_not_done_again(seed: int) -> None:
    dice = random.Random(seed)
    script = Script(failing=_failures(dice), raising=_mishaps(dice))
    with harness(script, external=seed % 2 == 1, hold=seed % 3, keep_workflows=timedelta(days=30)) as fleet:
        chaos = _Chaos(fleet, dice)
        for _ in range(TURNS):
            chaos.turn()
        chaos.calm()
        done = effects(fleet)
        fleet.advance(timedelta(days=31).total_seconds())
        fleet.crash(dice.choice([*fleet.stores]))
        fleet.settle()

        come_again(fleet)

        assert effects(fleet) == done
        assert not any(store.page("travel", "", 1) for store in fleet.stores.values())
        assert not fleet.stopped()


@pytest.mark.parametrize("kind", ["local", "external", "vectorised"])
@seeds(10, fast=1)
def test_a_dependency_that_comes_and_goes_changes_no_end(seed: int, kind: str) -> None:
    dice = random.Random(seed)
    script = Script(failing=_failures(dice), raising=_mishaps(dice))
    desk = {"minimum_calls": 2, "pause": 3.0, "probes": dice.randint(1, 2)}
    external = kind == "external"

    with harness(script, external=external, vectorised=kind == "vectorised", desk=desk, chance=dice.random) as fleet:
        chaos = _Chaos(fleet, dice)
        for _ in range(TURNS):
            if dice.random() < 0.1:
                script.away = {"hotel", "free_hotel"} - script.away
            chaos.turn()
        script.away = set()
        chaos.calm()

        _everything_ended_whole(fleet, chaos.workflows, script, external=external)


@pytest.mark.parametrize("on_stuck", ["wait", "continue"])
@seeds(8, fast=1)
def test_whatever_happens_everybody_ends_with_the_same_exceptions(seed: int, on_stuck: str) -> None:
    dice = random.Random(seed)
    raising = {(step, f"trip {n}"): dice.randint(0, 9) for step in ("free_hotel", "free_flight") for n in range(TRIPS)}
    script = Script(failing={("pay", f"trip {n}") for n in range(TRIPS) if dice.random() < 0.8}, raising=raising)

    with harness(script, retry=Retry(attempts=3, quick=1, first=5), on_stuck=on_stuck) as fleet:
        chaos = _Chaos(fleet, dice)
        for _ in range(TURNS):
            dice.choice([chaos.turn] * 5 + [chaos.operate])()
        chaos.calm()
        while chaos.operate():
            chaos.calm()

        assert not fleet.stopped()
        passed_over = {key.decode() for key, step in _stuck(fleet) if on_stuck == "continue" and step == b"hotel"}
        for workflow in chaos.workflows:
            _ended_with(fleet, workflow, chaos.resolved[workflow] | ({"hotel"} if workflow in passed_over else set()))


def _stuck(fleet: Harness) -> set[tuple[bytes, bytes | None]]:
    records = [record for log in fleet.broker.logs.values() for record in log]
    return {(r.key, dict(r.headers)["ce_step"]) for r in records if r.key and ("ce_status", b"stuck") in r.headers}


def _ended_with(fleet: Harness, workflow: str, exceptions: set[str]) -> None:
    ends = [fleet.workflow(name, workflow) for name in fleet.stores]
    assert {end.status if end and end.closed else None for end in ends} <= {ends[0].status if ends[0] else None}
    assert [set(end.exceptions) for end in ends if end] == [exceptions] * len(fleet.stores)


@pytest.mark.slow
def test_the_chaos_really_happens() -> None:
    """Over the seeds every failpoint is hit, workflows end both ways, aborts come too late and steps are tombstoned."""
    ends = [WorkflowStatus.COMPLETED, WorkflowStatus.COMPENSATED, StepStatus.SKIPPED]
    missing = {*Failpoint, *ends, "refused", "duplicates", "parked"}
    for seed in range(40):
        missing -= _seen(seed)
        if not missing:
            break
    assert missing == set()


def _seen(seed: int) -> set[str]:
    dice = random.Random(seed)
    with harness(Script(failing=_failures(dice), raising=_mishaps(dice)), external=True) as fleet:
        chaos = _Chaos(fleet, dice)
        for _ in range(TURNS):
            chaos.turn()
        chaos.calm()
        seen: set[str] = {place for place, times in chaos.crashes.items() if times}
        for workflow in chaos.workflows:
            seen |= {fleet.workflow("agency", workflow).status, *fleet.steps(workflow).values()}  # type: ignore[union-attr]
        if any(("ce_status", b"refused") in record.headers for log in fleet.facts() for record in log):
            seen.add("refused")
        if any(loop.processor.intake.counts.duplicates for loop in fleet.loops.values()):
            seen.add("duplicates")
    return seen


class _Chaos:
    """One random act after the other."""

    def __init__(self, fleet: Harness, dice: random.Random) -> None:
        self.fleet, self.dice = fleet, dice
        self.workflows: list[str] = []
        self.crashes: Counter[str] = Counter()
        self.resolved: dict[str, set[str]] = defaultdict(set)

    def turn(self) -> None:
        work = [self._work] * 3
        acts = [self._start, *work, self._crash, self._crash_at, self._redeliver, self._abort, self._wait]
        self.dice.choice(acts)()
        parked = (self.fleet.workflow(name, w) for name in self.fleet.stores for w in self.workflows)
        self.crashes["parked"] += any(workflow.is_parked for workflow in parked if workflow)

    def calm(self) -> None:
        """Let everything settle that is on its way, and everything that is parked be tried again until it ends."""
        self.fleet.settle()
        for _ in range(12):
            self._lift_quarantine()
            self.fleet.advance(301)

    def _lift_quarantine(self) -> None:
        """Somebody finds nothing wrong with what a process died of three times, and has it tried again."""
        for name, workflow in [(name, workflow) for name in self.fleet.stores for workflow in self.workflows]:
            known = self.fleet.workflow(name, workflow)
            if known and any((fence.error or "").startswith("in quarantine") for fence in known.fences.values()):
                with self.fleet.transaction(name) as tx:
                    self.fleet.participants[name].retry(workflow, tx)

    def operate(self) -> bool:
        """Somebody resolves or retries one stuck compensation; answers whether there was one."""
        owners = {"hotel": ("hotels", HotelFreed(trip="by hand")), "flight": ("airline", FlightFreed(trip="by hand"))}
        stuck = [(w, step) for w in self.workflows for step in owners if self._is_stuck(w, step)]
        if not stuck:
            return False
        workflow, step = self.dice.choice(stuck)
        owner, event = owners[step]
        with self.fleet.transaction(owner) as tx:
            if self.dice.random() < 0.5:
                self.fleet.participants[owner].retry(workflow, tx)
            else:
                self.fleet.participants[owner].resolve(workflow, step, event, tx)
                self.resolved[workflow].add(step)
        return True

    def _is_stuck(self, workflow: str, step: str) -> bool:
        known = self.fleet.workflow(self.fleet.saga[step].by, workflow)
        return known is not None and not known.closed and known.fences.get(step, _IDLE).status is StepStatus.STUCK

    def _name(self) -> str:
        return self.dice.choice(list(self.fleet.loops))

    def _start(self) -> None:
        if len(self.workflows) < TRIPS:
            number = len(self.workflows)
            self.workflows.append(self.fleet.start(TripBooked(trip=f"trip {number}"), workflow_id=f"w{number}"))

    def _work(self) -> None:
        self.fleet.turn(self._name())

    def _wait(self) -> None:
        self.fleet.clock.advance(self.dice.choice([0.1, 1, 10]))

    def _crash(self) -> None:
        self.fleet.crash(self._name())

    def _crash_at(self) -> None:
        name, place = self._name(), self.dice.choice(list(Failpoint))
        try:
            with armed(f"{place}:raise:{self.dice.randint(1, 2)}"):
                self.fleet.turn(name)
        except FailpointRaised:
            self.crashes[place] += 1
            self.fleet.crash(name)

    def _redeliver(self) -> None:
        if logs := [log for log in self.fleet.broker.logs.values() if log]:
            log = self.dice.choice(logs)
            again = self.dice.choice(log)
            log.append(type(again)(again.topic, again.partition, len(log), again.key, again.value, again.headers))

    def _abort(self) -> None:
        if self.workflows and self.dice.random() < 0.3:
            name, workflow = self._name(), self.dice.choice(self.workflows)
            try:
                self.fleet.abort(workflow, by=name)
            except Refused:
                self.crashes["refused here"] += 1


def _failures(dice: random.Random) -> set[tuple[str, str]]:
    return {(dice.choice(["hotel", "flight", "pay"]), f"trip {number}") for number in range(TRIPS) if dice.random() < 0.4}


def _mishaps(dice: random.Random) -> dict[tuple[str, str], int]:
    steps = ["hotel", "flight", "pay", "free_hotel"]
    return {(dice.choice(steps), f"trip {n}"): dice.randint(1, 8) for n in range(TRIPS) if dice.random() < 0.4}


def _everything_is_handled_and_nothing_was_taken_for_lost(fleet: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """Every outbox is empty: all that was stated has been acknowledged by everybody that it concerns."""
    tomorrow = fleet.clock.now() + timedelta(days=1)
    assert {name: store.outstanding(tomorrow, 9) for name, store in fleet.stores.items()} == {name: [] for name in fleet.stores}
    assert [record.message for record in caplog.records if record.message.startswith("lost")] == []


def _everything_ended_whole(fleet: Harness, workflows: list[str], script: Script, *, external: bool) -> None:
    assert not fleet.stopped()
    for workflow in workflows:
        _ended_alike(fleet, workflow)
    _effects_are_whole(fleet, workflows)
    _every_invariant_holds(fleet)
    if external:
        _the_world_was_called_by_one_key_for_each_step(fleet, script)


def _ended_alike(fleet: Harness, workflow: str) -> None:
    ends = {name: fleet.workflow(name, workflow) for name in fleet.stores}
    statuses = {end.status if end else None for end in ends.values()}
    assert statuses in ({WorkflowStatus.COMPLETED}, {WorkflowStatus.COMPENSATED}), (workflow, ends)
    steps = fleet.steps(workflow)
    if statuses == {WorkflowStatus.COMPLETED}:
        assert set(steps.values()) == {StepStatus.DONE}, steps
    else:
        assert StepStatus.DONE not in steps.values(), steps


def _effects_are_whole(fleet: Harness, workflows: list[str]) -> None:
    found = Counter(effects(fleet))
    assert {effect: times for effect, times in found.items() if times > 1} == {}
    for workflow in workflows:
        for step, status in fleet.steps(workflow).items():
            undone = (workflow, step, "compensation") in found
            assert undone == (status is StepStatus.COMPENSATED), (workflow, step, status)
            if status in {StepStatus.SKIPPED, StepStatus.IDLE}:
                assert (workflow, step, "action") not in found
            elif step != "book":
                assert (workflow, step, "action") in found, (workflow, step, status)


def _every_invariant_holds(fleet: Harness) -> None:
    owners = {step.name: step.by for step in fleet.saga.steps}
    done = [Effect(owners[step], workflow, step, act) for workflow, step, act in effects(fleet)]
    judgement = judge(Evidence.gather(Contracts([fleet.saga]), fleet.broker, fleet.stores, effects=done))
    assert [str(violation) for violation in judgement.violations] == []
    assert judgement.workflows > 2


def _the_world_was_called_by_one_key_for_each_step(fleet: Harness, script: Script) -> None:
    called = [effect for effect in effects(fleet) if effect[1] == "hotel"]
    assert len(script.calls) == len(called)
