"""A database that has lost its latest transactions under a running worker: a replica that was behind has taken its place."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from saga.engine.lanes import FENCED_PAUSE
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.store.sqlite import SqliteStore
from saga.testing.harness import Harness
from tests.laid import sqlite_store
from tests.travel import CREATE_EFFECTS, Script, TripBooked, fleet


class OnFiles(Harness):
    """Each store is a file that can be put back to what it was."""

    def __init__(self, folder: Path) -> None:
        self._files = (folder / f"{number}.db" for number in count())
        self.files: dict[int, Path] = {}
        super().__init__(*fleet(Script()), partitions=1)
        for name in self.stores:
            with self.transaction(name) as tx:
                tx.execute(CREATE_EFFECTS)

    def book(self, workflow: str) -> str:
        """As another process would: what this very connection has written wakes nobody."""
        with ThreadPoolExecutor(1) as elsewhere:
            return elsewhere.submit(self.start, TripBooked(trip=workflow), workflow_id=workflow).result()

    def new_store(self) -> SqliteStore:  # type: ignore[override]
        file = next(self._files)
        store = sqlite_store(file, clock=self.clock)
        self.files[id(store)] = file
        return store

    def copy(self, participant: str) -> Path:
        """What it has now, put aside."""
        file = self.files[id(self.stores[participant])]
        _copy(file, aside := file.with_suffix(".aside"))
        return aside

    def fall_back(self, participant: str, copy: Path) -> None:
        """Have that again, under whoever is at work."""
        _copy(copy, self.files[id(self.stores[participant])])

    def effects(self, participant: str, workflow: str) -> int:
        with self.transaction(participant) as tx:
            return len(tx.execute("SELECT 1 FROM effects WHERE workflow = ?", (workflow,)).fetchall())


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as here, closing(sqlite3.connect(target)) as there:
        here.backup(there)


@pytest.fixture
def on_files(tmp_path: Path) -> Iterator[OnFiles]:
    with OnFiles(tmp_path) as running:
        yield running


@pytest.mark.parametrize("then", ["goes on", "is quiet"])
def test_the_lane_stops_where_something_was_published_that_the_database_does_not_know_any_more(
    on_files: OnFiles, then: str
) -> None:
    kept = on_files.book("kept")
    on_files.settle()
    before = on_files.copy("hotels")
    lost = on_files.book("lost")
    on_files.settle()

    on_files.fall_back("hotels", before)
    if then == "goes on":
        on_files.book("later")
    for _ in range(3):
        on_files.advance(FENCED_PAUSE)

    [[stopped]] = on_files.stopped().values()
    assert f"holds fact 1 of 'hotels' about workflow {lost}, but this database knows 0" in str(stopped)
    assert [on_files.effects("hotels", workflow) for workflow in (kept, lost, "later")] == [1, 0, 0]


def test_what_was_lost_and_not_published_is_done_again_even_if_nothing_new_comes(on_files: OnFiles) -> None:
    on_files.book("lost")
    before = on_files.copy("bank")
    for _ in range(100):
        if (known := on_files.workflow("bank", "lost")) and known.closed:
            break
        before = on_files.copy("bank")
        on_files.clock.advance(0.1)
        for name in on_files.loops:
            on_files.turn(name)
    on_files.advance(1)

    on_files.fall_back("bank", before)
    assert (found := on_files.workflow("bank", "lost")) is None or not found.closed
    for _ in range(3):
        on_files.advance(FENCED_PAUSE)

    assert on_files.stopped() == {}
    assert (ended := on_files.workflow("bank", "lost")) is not None
    assert ended.status is WorkflowStatus.COMPLETED
    assert on_files.effects("bank", "lost") == 1
    assert {*on_files.steps("lost").values()} == {StepStatus.DONE}
