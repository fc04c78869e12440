"""A fleet whose participants are released one by one, each with the versions of the saga that it knows then, and taken back.

Whatever the order of deployments, each workflow that all know again in the end has ended as the facts say, each effect happened
once, and what waited for a version was taken in. Each of `PLANTED` is caught: letters that no release recalls, retries and
timeouts of the latest version alone, records of an unknown version that are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from saga.replay import drawing
from saga.replay.comparison import differences
from saga.replay.contracts import Contracts
from saga.replay.gathering import histories
from saga.replay.rebuild import Rebuild
from saga.replay.source import TopicSource
from saga.replay.timeline import timeline
from saga.store.memory import MemoryStore
from saga.testing.simulation.campaign import Campaign
from saga.testing.simulation.drawing import Kind
from saga.testing.simulation.simulation import Run, Simulation
from saga.testing.simulation.world import TAKEN_BACK, WAITED, World
from tests.planted import (
    Patch,
    due_of_the_latest_version_alone,
    letters_never_recalled,
    unknown_versions_passed_over,
)
from tests.seeds import seeds
from tests.simulation.releases import OrderPlaced, fleet, releases

PLANTED = [
    letters_never_recalled,
    due_of_the_latest_version_alone,
    unknown_versions_passed_over,
]


def simulation(kinds: frozenset[Kind] = frozenset(Kind)) -> Simulation:
    """Releases of every combination of versions, among all other trouble or that of some `kinds`."""
    return Simulation(
        fleet(),
        workflows=8,
        acts=160,
        kinds=kinds,
        releases=releases(),
        begin=lambda number: OrderPlaced(order=f"order {number}"),
        look=look,
    )


def look(world: World) -> Iterator[str]:
    """What the topics tell of each workflow agrees with what is in the stores, which can be made of them."""
    contracts = Contracts([*world.participants["shop"].versions])
    for history in histories(TopicSource(world.broker, "orders"), contracts):
        told = timeline(contracts, history)
        if told.state is None or told.state.closed is None or told.holes or told.awaited:
            yield f"{history.workflow}: {told.state}, {told.holes}, {told.awaited}"
        assert drawing.tree(told)
        assert drawing.mermaid(told)
    for name in world.stores:
        yield from _unlike_rebuilt(world, name)


def _unlike_rebuilt(world: World, name: str) -> Iterator[str]:
    store = MemoryStore(world.clock)
    rebuild = Rebuild(world.participants[name], store, world.broker, clock=world.clock, evolve=False)
    rebuild.prepare([])
    rebuild.start()
    rebuild.catch_up()
    rebuild.finish()
    ours, theirs = ({w.id: w for w in one.page("orders", "", 1000)} for one in (world.stores[name], store))
    aside = {letter.workflow_id for letter in world.too_late()[name]}
    for id in (ours.keys() | theirs.keys()) - aside:
        if id not in ours or id not in theirs:
            yield f"{id}: only one of {name} and its rebuild knows it"
        else:
            yield from (f"{id}: {one.table} of {name}: {one.text}" for one in differences(ours[id], theirs[id]))


@seeds(40, fast=3)
def test_whatever_the_order_of_deployments_every_workflow_ends_once_and_whole(seed: int) -> None:
    run = simulation().run(seed)

    assert [str(violation) for violation in run.violations] == []


def test_releases_are_taken_back_while_records_wait_for_them() -> None:
    campaign = Campaign(simulation(frozenset({Kind.DEPLOY})))

    for _ in campaign.run(range(3)):
        pass

    met = {rare.state: rare.times for rare in campaign.rare()}
    assert met[TAKEN_BACK] > 10
    assert met[WAITED] > 10


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    plant(monkeypatch)

    assert _first_broken() is not None


def _first_broken() -> Run | None:
    simulated = simulation(frozenset({Kind.DEPLOY, Kind.RAISE}))
    return next((run for run in map(simulated.run, range(100)) if run.violations), None)
