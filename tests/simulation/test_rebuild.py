"""Stores made of the topics against those that lived, under seeded chaos, and fleets that go on with them.

A failing seed reproduces: `pytest -k 'seed-17'`.
"""

from __future__ import annotations

import random
from functools import partial

import pytest

from saga import Retry
from saga.testing.harness import Harness
from tests.rebuilding import begun, gone_on, put_in_place, rebuilt, rows, stored, unlike
from tests.seeds import seeds
from tests.simulation.test_fleet import TURNS, _Chaos, _everything_ended_whole, _failures, _mishaps
from tests.travel import Script, harness

EXTERNAL = pytest.mark.parametrize("external", [False, True], ids=["local", "external"])


def facts(fleet: Harness) -> int:
    return sum(map(len, fleet.facts()))


@EXTERNAL
@seeds(6, fast=1)
def test_what_was_lost_is_made_again_row_by_row_and_nothing_is_stated(seed: int, external: bool) -> None:
    dice = random.Random(seed)
    script = Script(failing=_failures(dice), raising=_mishaps(dice))

    with harness(script, external=external) as fleet:
        chaos = _Chaos(fleet, dice)
        for _ in range(TURNS):
            chaos.turn()
        chaos.calm()
        before, called = facts(fleet), dict(script.calls)

        for name, store in fleet.stores.items():
            again = rebuilt(fleet, name, batch=dice.choice([1, 3, 50, 5000]))
            assert unlike(store, again) == []
            assert rows(store) == rows(again)
        assert facts(fleet) == before
        assert script.calls == called


@seeds(6, fast=1)
def test_exceptions_and_what_operators_did_are_made_again(seed: int) -> None:
    dice = random.Random(seed)
    raising = {(step, f"trip {n}"): dice.randint(0, 9) for step in ("free_hotel", "free_flight") for n in range(12)}
    script = Script(failing={("pay", f"trip {n}") for n in range(12) if dice.random() < 0.8}, raising=raising)
    on_stuck = dice.choice(["wait", "continue"])

    with harness(script, retry=Retry(attempts=3, quick=1, first=5), on_stuck=on_stuck) as fleet:
        chaos = _Chaos(fleet, dice)
        for _ in range(TURNS):
            dice.choice([chaos.turn] * 5 + [chaos.operate])()
        chaos.calm()

        assert {name: unlike(store, rebuilt(fleet, name)) for name, store in fleet.stores.items()} == {
            name: [] for name in fleet.stores
        }


@EXTERNAL
@seeds(10, fast=1)
def test_a_store_lost_at_any_moment_is_rebuilt_and_the_fleet_ends_as_if_it_had_not_been(seed: int, external: bool) -> None:
    dice = random.Random(seed)
    script = Script(failing=_failures(dice), raising=_mishaps(dice))

    with harness(script, external=external) as fleet:
        chaos = _Chaos(fleet, dice)
        for _ in range(3):
            for _ in range(dice.randint(1, TURNS // 3)):
                chaos.turn()
            name = dice.choice(list(fleet.stores))
            put_in_place(fleet, name, rebuilt(fleet, name, batch=dice.choice([1, 3, 50])))
            chaos.workflows = [id for id in chaos.workflows if _is_known(fleet, id)]
        for _ in range(TURNS // 3):
            chaos.turn()
        chaos.calm()

        assert chaos.workflows
        _everything_ended_whole(fleet, chaos.workflows, script, external=external)


@seeds(6, fast=1)
def test_a_rebuild_that_is_killed_goes_on_where_it_was(seed: int) -> None:
    dice = random.Random(seed)
    script = Script(failing=_failures(dice), raising=_mishaps(dice))

    with harness(script, external=True) as fleet:
        chaos = _Chaos(fleet, dice)
        for _ in range(TURNS):
            chaos.turn()
        chaos.calm()

        for name, store in fleet.stores.items():
            first = begun(fleet, name, batch=3)
            budget = iter([False] * dice.randint(0, 20))
            first.catch_up(partial(next, budget, True))
            second = gone_on(fleet, name, first)
            second.catch_up()

            assert second.finish() == {}
            assert unlike(store, stored(second)) == []
            assert rows(store) == rows(stored(second))


def _is_known(fleet: Harness, workflow: str) -> bool:
    """What was begun and never published is gone with its database, as if the customer had not called."""
    return fleet.workflow(fleet.saga.initiator, workflow) is not None
