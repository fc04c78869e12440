"""Whatever is done to them, the file answers as the dictionaries do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus
from saga.store.memory import MemoryStore
from saga.store.outbox import OutboxRow, Published
from saga.store.port import Changes, Store, Unit
from saga.store.postgres import PostgresStore
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Fence, Received, Workflow
from servers import fresh_database

START = datetime(2026, 3, 1, tzinfo=UTC)
IDS = ["w1", "w2", "w3"]
_runs = count()


class _RolledBack(Exception):
    """Ends a unit that is not to be committed."""


@dataclass(frozen=True)
class Deed:
    """One save on one workflow: what the engine may change at once."""

    workflow_id: str
    fences: dict[str, StepStatus]
    facts: frozenset[FactStatus]
    events: int
    publishes: int
    closes: bool
    at: datetime

    def do(self, saga: str, unit: Unit) -> None:
        known = unit.load(saga, [self.workflow_id]).get(self.workflow_id)
        w = known or Workflow(id=self.workflow_id, version=1, lane=0, opened=self.at)
        first, w.sequence = w.sequence + 1, w.sequence + self.events
        changes = Changes(
            fences=[(w.id, Fence(step=step, status=status, changed=self.at)) for step, status in self.fences.items()],
            inbox=[(w.id, Received(id=f"{fact}", step="s", status=fact, type="t", payload=b"p")) for fact in self.facts],
            outbox=[self._event(saga, number) for number in range(first, w.sequence + 1)],
        )
        if self.closes:
            changes.closed.append(replace(w, closed=self.at, status=WorkflowStatus.COMPLETED))
        else:
            changes.workflows.append(w)
        unit.save(saga, changes)
        unit.mark([Published(saga, w.id, number, number) for number in range(1, self.publishes + 1)])

    def _event(self, saga: str, sequence: int) -> OutboxRow:
        return OutboxRow(
            id=f"{saga}/{self.workflow_id}/{sequence}",
            saga=saga,
            lane=0,
            topic="events",
            workflow_id=self.workflow_id,
            type="t",
            sequence=sequence,
            headers=[("ce_id", "1")],
            payload=b"",
            created=self.at,
        )


deeds = st.builds(
    Deed,
    workflow_id=st.sampled_from(IDS),
    fences=st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(StepStatus)),
    facts=st.frozensets(st.sampled_from(FactStatus), max_size=3),
    events=st.integers(0, 2),
    publishes=st.integers(0, 3),
    closes=st.sampled_from([False, False, False, True]),
    at=st.integers(0, 10**9).map(lambda microseconds: START + timedelta(microseconds=microseconds)),
)
units = st.lists(st.tuples(st.lists(deeds, min_size=1, max_size=4), st.booleans()), max_size=6)


def history(store: Store, saga: str, script: list[tuple[list[Deed], bool]]) -> Iterator[Any]:
    """All that can be read after each unit, committed or not."""
    for deeds, commits in script:
        with suppress(_RolledBack), store.unit() as unit:
            for deed in deeds:
                deed.do(saga, unit)
            if not commits:
                raise _RolledBack
        with store.unit() as unit:
            yield unit.load(saga, IDS), unit.running(saga, 0)
        yield store.pending(saga, 0, 4)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MemoryStore, SqliteStore]]:
    path: Path = tmp_path_factory.mktemp("agreement") / "stock.db"
    with closing(MemoryStore()) as memory, closing(SqliteStore(path, migrate=True)) as sqlite:
        yield memory, sqlite


@given(script=units)
@settings(max_examples=60)
def test_memory_and_sqlite_tell_the_same_history(
    stores: tuple[MemoryStore, SqliteStore], script: list[tuple[list[Deed], bool]]
) -> None:
    memory, sqlite = stores
    saga = f"saga{next(_runs)}"

    assert list(history(sqlite, saga, script)) == list(history(memory, saga, script))


@pytest.fixture(scope="module")
def postgres_store(postgres: str) -> Iterator[PostgresStore]:
    with fresh_database(postgres) as url, closing(PostgresStore(url, migrate=True)) as store:
        yield store


@pytest.mark.slow
@given(script=units)
@settings(max_examples=60)
def test_memory_and_postgres_tell_the_same_history(
    postgres_store: PostgresStore, script: list[tuple[list[Deed], bool]]
) -> None:
    saga = f"saga{next(_runs)}"

    with closing(MemoryStore()) as memory:
        assert list(history(postgres_store, saga, script)) == list(history(memory, saga, script))
