"""What tests of a rebuild share: the topics of a harness made into stores, and those put in place of lost ones."""

from __future__ import annotations

from typing import Any

from saga.replay.comparison import differences
from saga.replay.rebuild import Rebuild
from saga.store.memory import MemoryStore
from saga.testing.harness import Harness
from tests.travel import CREATE_EFFECTS


def begun(fleet: Harness, name: str, **options: Any) -> Rebuild:
    """A rebuild of one participant into a fresh store, nothing read yet."""
    rebuild = Rebuild(fleet.participants[name], MemoryStore(fleet.clock), fleet.broker, clock=fleet.clock, **options)
    rebuild.prepare([CREATE_EFFECTS])
    rebuild.start()
    return rebuild


def gone_on(fleet: Harness, name: str, killed: Rebuild, **options: Any) -> Rebuild:
    """Another process goes on with what one that was killed has left."""
    rebuild = Rebuild(fleet.participants[name], killed.store, fleet.broker, clock=fleet.clock, **options)
    rebuild.start()
    return rebuild


def stored(rebuild: Rebuild) -> MemoryStore:
    """What it has made so far."""
    assert isinstance(rebuild.store, MemoryStore)
    return rebuild.store


def rebuilt(fleet: Harness, name: str, **options: Any) -> MemoryStore:
    """A participant's store, made of all that is on the topics now."""
    rebuild = begun(fleet, name, **options)
    rebuild.catch_up()
    rebuild.finish()
    return stored(rebuild)


def put_in_place(fleet: Harness, name: str, store: MemoryStore) -> None:
    """Let the participant go on with this store; the one it had is gone."""
    fleet.stores[name] = store
    fleet.crash(name)


def rows(store: MemoryStore) -> list[tuple[str, ...]]:
    """The business rows."""
    with store.transaction() as tx:
        return sorted(tx.execute("SELECT * FROM effects").fetchall())


def unlike(live: MemoryStore, other: MemoryStore) -> list[str]:
    """All in which the workflows of two stores differ."""
    ours = {workflow.id: workflow for workflow in live.page("travel", "", 10_000)}
    theirs = {workflow.id: workflow for workflow in other.page("travel", "", 10_000)}
    found = [f"only one knows {id}" for id in ours.keys() ^ theirs.keys()]
    return found + [f"{id}: {one.text}" for id in ours.keys() & theirs.keys() for one in differences(ours[id], theirs[id])]
