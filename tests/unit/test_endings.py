"""Workflows that end as others have are copied from these, and are the same as if their facts had been applied one by one."""

from __future__ import annotations

import pytest

from saga.contracts.ids import workflow_id
from saga.replay.met import Met
from saga.replay.rebuild import Rebuild
from saga.testing.harness import Harness
from tests.histories import lived
from tests.rebuilding import begun, rebuilt, rows, stored, unlike
from tests.travel import Script, TripBooked, harness

STORES = ["agency", "hotels", "airline", "bank"]


def travelled(fleet: Harness, trips: int) -> None:
    for number in range(trips):
        fleet.start(TripBooked(trip=f"trip {number}"), workflow_id=f"trip {number}")
    fleet.settle()


def read(fleet: Harness, name: str, *, by_fact: bool = False) -> Rebuild:
    """A rebuild of all that is there; `by_fact` copies nothing."""
    rebuild = begun(fleet, name, partial=True)
    if by_fact:
        rebuild.endings.of = lambda facts: None  # type: ignore[method-assign]
    rebuild.catch_up()
    return rebuild


@pytest.mark.parametrize("name", STORES)
def test_what_is_copied_is_what_applying_each_fact_makes(name: str) -> None:
    script = Script(failing={("hotel", "trip 1"), ("pay", "trip 2"), ("pay", "trip 5")})
    with harness(script) as fleet:
        travelled(fleet, 8)

        copying, applying = read(fleet, name), read(fleet, name, by_fact=True)

        assert unlike(stored(copying), stored(applying)) == []
        assert rows(stored(copying)) == rows(stored(applying)) == rows(fleet.stores[name])
        endings = [ending for ending in copying.endings.known.values() if ending is not None]
        assert 0 < len(endings) < 8


def test_a_fact_that_is_there_twice_changes_nothing() -> None:
    with harness(Script()) as fleet:
        travelled(fleet, 3)
        for log in fleet.broker.logs.values():
            log += [record._replace(offset=len(log) + n) for n, record in enumerate(log)]

        again = rebuilt(fleet, "hotels")

        assert unlike(fleet.stores["hotels"], again) == []
        assert rows(again) == rows(fleet.stores["hotels"])


@pytest.mark.parametrize("name", STORES)
def test_what_is_missing_is_noticed_alike_whichever_fact_was_deleted(name: str) -> None:
    told: list[str] = []
    with lived() as fleet:
        for log in fleet.broker.logs.values():
            for place, record in enumerate(log):
                log[place] = record._replace(headers=[("ce_saga", b"travel")], key=None)
                copying, applying = read(fleet, name), read(fleet, name, by_fact=True)
                log[place] = record

                assert copying.missing() == applying.missing()
                assert unlike(stored(copying), stored(applying)) == []
                told += copying.missing()
    assert {"smooth", "full", "poor"} <= {*told}


def test_a_workflow_that_was_met_is_never_forgotten_and_few_others_are_taken_for_one() -> None:
    mine, others = ([workflow_id() for _ in range(1000)] for _ in range(2))
    met = Met(1000)

    for id in mine:
        met.add(id)

    assert all(id in met for id in mine)
    assert sum(id in met for id in others) < 100
