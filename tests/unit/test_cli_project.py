"""`saga project`: a read model of one's own is filled, rebuilt, and refused with a next step."""

from __future__ import annotations

import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from saga import assembly
from saga.errors import BrokerError, LaneFenced, SagaError, StoreError
from saga.replay.projector import Projector
from saga.settings import Settings
from saga.store.sqlite_tables import SqliteTables
from saga.testing.harness import Harness
from tests.commands import Commands, Said
from tests.histories import lived, made_again

REPORTS = """
from saga import Event, Projection, Saga

trips = Projection("trips", Saga.load("contracts"), tables=["trips"], version={version})
number = 7

class TripBooked(Event):
    trip: str

@trips.create
def create(tx):
    tx.execute(f"CREATE TABLE {{tx.table('trips')}} (trip TEXT)")

@trips.on(TripBooked)
def book(event, tx):
    tx.execute(f"INSERT INTO {{tx.table('trips')}} VALUES (?)", (event.trip,))
"""


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    with lived() as running:
        monkeypatch.setattr(assembly, "broker", lambda settings: running.broker)
        yield running


def project(contracts: Commands, *options: str, version: int = 1, name: str = "trips", once: bool = True) -> Said:
    """The command, with the code of this version of the projection; each module is imported once."""
    module = f"reports_{contracts.folder.name[-12:]}_{version}"
    (contracts.folder / f"{module}.py").write_text(REPORTS.format(version=version))
    SqliteTables(contracts.folder / "reports.db").upgrade()
    try:
        return contracts("project", f"{module}:{name}", "--database", "sqlite:///reports.db", *["--once"] * once, *options)
    finally:
        sys.modules.pop(module, None)


def booked(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "reports.db")) as connection:
        return [trip for (trip,) in connection.execute("SELECT trip FROM trips ORDER BY trip")]


def test_tables_are_filled_and_filled_no_further(fleet: Harness, contracts: Commands) -> None:
    first, again = project(contracts), project(contracts, "--json")

    assert first.code == 0, first.err
    assert first.out.startswith("trips v1: ")
    assert again.json == {"projection": "trips", "version": 1, "partial": False, "records": 0}
    assert booked(contracts.folder) == ["full", "open", "poor", "smooth"]


def test_code_of_another_version_is_told_to_rebuild_and_does(fleet: Harness, contracts: Commands) -> None:
    project(contracts)

    refused, rebuilt = project(contracts, version=2), project(contracts, "--rebuild", version=2)

    assert refused.code == 2
    assert "are of version 1, the code is of version 2; run: saga project MODULE:PROJECTION --rebuild" in refused.err
    assert rebuilt.code == 0
    assert booked(contracts.folder) == ["full", "open", "poor", "smooth"]


def test_what_is_no_projection_is_refused_with_those_that_there_are(fleet: Harness, contracts: Commands) -> None:
    said = project(contracts, name="number")

    assert said.code == 2
    assert "'number' there is of type int; expected a saga.Projection. It has: reports_" in " ".join(said.err.split())


def test_a_place_that_is_none_is_refused_with_one(fleet: Harness, contracts: Commands) -> None:
    said = project(contracts, "--leave-out", "travel.events/0")

    assert said.code == 2
    assert "found --leave-out 'travel.events/0'; expected a place as it was told, e.g. checkout.events/0@17" in said.err


def test_one_that_goes_on_waits_for_a_broker_that_is_away(
    fleet: Harness, contracts: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def catch_up(projector: Projector) -> int:
        looks.append(len(looks))
        if looks[-1] in (1, 2):
            raise BrokerError("nobody answers", retriable=True)
        if looks[-1] == 3:
            signal.raise_signal(signal.SIGTERM)
        return 0

    monkeypatch.setattr(Projector, "catch_up", catch_up)
    monkeypatch.setattr(sys.modules["saga.cli.past.project"], "PAUSE", 0.01)

    said = project(contracts, once=False)

    assert said.code == 0
    assert len(looks) >= 4
    assert said.err.count("nobody answers; trying again") == 1


def away_at_first(monkeypatch: pytest.MonkeyPatch, what: str, error: SagaError, times: int) -> None:
    """Whoever asks `assembly` for it meets this error so many times."""
    there, failures = getattr(assembly, what), iter(range(times))

    def ask(settings: Settings) -> object:
        if next(failures, None) is not None:
            raise error
        return there(settings)

    monkeypatch.setattr(assembly, what, ask)


AWAY = [("broker", BrokerError("nobody answers", retriable=True)), ("store", StoreError("nobody answers"))]


@pytest.mark.parametrize(("server", "error"), AWAY, ids=["broker", "database"])
def test_a_server_that_is_away_at_the_start_is_waited_for_as_later(
    fleet: Harness, contracts: Commands, monkeypatch: pytest.MonkeyPatch, server: str, error: SagaError
) -> None:
    away_at_first(monkeypatch, server, error, 3)
    catch_up = Projector.catch_up

    def last(projector: Projector) -> int:
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # it has begun to follow
            signal.raise_signal(signal.SIGTERM)
        return catch_up(projector)

    monkeypatch.setattr(Projector, "catch_up", last)
    monkeypatch.setattr(sys.modules["saga.cli.past.project"], "PAUSE", 0.01)

    said = project(contracts, once=False)

    assert said.code == 0, said.err
    assert said.err == "nobody answers; trying again\n"
    assert booked(contracts.folder) == ["full", "open", "poor", "smooth"]


@pytest.mark.parametrize(("server", "error"), AWAY, ids=["broker", "database"])
def test_one_that_is_to_end_does_not_wait(
    fleet: Harness, contracts: Commands, monkeypatch: pytest.MonkeyPatch, server: str, error: SagaError
) -> None:
    away_at_first(monkeypatch, server, error, 1)

    said = project(contracts, once=True)

    assert (said.code, said.err) == (1, "error: nobody answers\n")


def test_one_that_was_fenced_ends(fleet: Harness, contracts: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([0])

    def catch_up(projector: Projector) -> int:
        if (count := next(found, None)) is None:
            raise LaneFenced("travel", 0, 1)
        return count

    monkeypatch.setattr(Projector, "catch_up", catch_up)

    said = project(contracts, once=False)

    assert said.code == 1
    assert "was taken over by another owner" in said.err


def lanes(contracts: Commands, *arguments: str) -> Said:
    return contracts("lanes", *arguments, "--database", "sqlite:///reports.db", "--broker", "nowhere:1")


def test_its_lanes_are_listed_with_offsets_of_topics_alone(fleet: Harness, contracts: Commands) -> None:
    project(contracts)

    listed, data = lanes(contracts, "list"), lanes(contracts, "list", "--json")

    assert (listed.code, data.code) == (0, 0), listed.err
    assert "not known" not in listed.out
    assert {topic for lane in data.json["lanes"] for topic in lane["offsets"]} == {"travel.events", "travel.compensations"}


def test_records_that_are_gone_are_not_skipped_in_silence(fleet: Harness, contracts: Commands) -> None:
    project(contracts)
    made_again(fleet.broker, "travel.events")

    listed = lanes(contracts, "list")
    skipped = lanes(contracts, "skip", "projection:trips", "0", "--reason", "r")
    reset = lanes(contracts, "reset", "projection:trips", "--reason", "r")

    assert "travel.events was made again: saga project --rebuild" in listed.out
    for said in (skipped, reset):
        assert said.code == 1
        assert "make them anew: saga project MODULE:PROJECTION --rebuild" in said.err
