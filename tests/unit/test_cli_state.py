"""`saga state`, as a person and a script meet it: on the terminal, as a file, as a table, and when something is missing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import fastavro
import pytest

from saga import assembly
from saga.testing.harness import Harness
from saga.transport.port import Partition
from tests.commands import Commands, written
from tests.histories import lived
from tests.travel import Script, TripBooked, saga
from tests.travel import fleet as participants


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    with lived() as running:
        monkeypatch.setattr(assembly, "broker", lambda settings: running.broker)
        yield running


def lose(fleet: Harness, type_: str) -> None:
    """Make the record of this event of `smooth` another's, as if its own were gone."""
    for records in fleet.broker.logs.values():
        for number, record in enumerate(records):
            headers = dict(record.headers)
            if (headers.get("ce_subject"), headers.get("ce_type")) == (b"smooth", f"travel.{type_}".encode()):
                del records[number]
                return


def test_the_terminal_shows_where_each_step_of_each_workflow_stands(fleet: Harness, contracts: Commands) -> None:
    said = contracts("state", "travel", "--schemas", "contracts")

    assert said.code == 0, said.err
    rows = {row.split()[0]: row.split() for row in said.out.splitlines()}
    assert rows["workflow"] == ["workflow", "status", "opened", "book", "hotel", "flight", "pay", "confirm"]
    assert rows["smooth"][1] == "completed"
    assert rows["smooth"][-5:] == ["done"] * 5
    assert rows["poor"][1] == "compensated"


def test_one_workflow_is_told_as_json_with_its_events(fleet: Harness, contracts: Commands) -> None:
    said = contracts("state", "travel", "--schemas", "contracts", "--workflow", "poor", "--json")

    [one] = said.json["workflows"]
    assert said.json["statuses"] == {"compensated": 1}
    assert one["workflow"]["id"] == "poor"
    assert one["pay"] == {"type": "travel.TripDeclined", "trip": "poor"}


def test_a_workflow_that_nobody_knows_is_no_empty_table(fleet: Harness, contracts: Commands) -> None:
    said = contracts("state", "travel", "--schemas", "contracts", "--workflow", "smoth")

    assert (said.code, said.out) == (1, "")
    assert "the topics of saga 'travel' hold nothing about smoth; check the id" in said.err


@pytest.mark.parametrize("place", [[], ["-o", "one.avro"], ["--to", "sqlite:///one.db"]], ids=["shown", "a file", "a table"])
def test_a_misspelt_workflow_beside_another_is_not_left_out_in_silence(
    fleet: Harness, contracts: Commands, place: list[str]
) -> None:
    said = contracts("state", "travel", "--schemas", "contracts", "--workflow", "poor", "--workflow", "smoth", *place)

    assert (said.code, said.out) == (1, "")
    assert "the topics of saga 'travel' hold nothing about smoth; check the id" in said.err
    assert not (contracts.folder / "one.avro").exists()


def test_an_avro_file_holds_all_of_them(fleet: Harness, contracts: Commands) -> None:
    said = contracts("state", "travel", "--schemas", "contracts", "-o", "travel.avro")

    assert said.out.startswith("travel.avro: 4 workflows of travel v1 (")
    with (contracts.folder / "travel.avro").open("rb") as opened:
        found: list[Any] = [*fastavro.reader(opened)]
    assert {one["workflow"]["id"] for one in found} == {"smooth", "full", "poor", "open"}


def test_each_version_is_told_by_itself_and_goes_to_a_file_of_its_own(fleet: Harness, contracts: Commands) -> None:
    second = saga(version=2)
    written(contracts.folder / "second", [second.own, *(s for name, s in second.types.items() if not name.startswith("saga."))])
    for participant in participants(Script(), versions=(1, 2)):
        fleet.deploy(participant)
    fleet.start(TripBooked(trip="insured"), workflow_id="insured")
    fleet.settle()

    said = contracts("state", "travel", "--schemas", "contracts", "--schemas", "second", "-o", "travel.avro")
    shown = contracts("state", "travel", "--schemas", "contracts", "--schemas", "second")
    data = contracts("state", "travel", "--schemas", "contracts", "--schemas", "second", "--json")
    as_json = contracts("state", "travel", "--schemas", "contracts", "--schemas", "second", "-o", "travel.avro", "--json")

    found = {}
    for version in (1, 2):
        with (contracts.folder / f"travel.v{version}.avro").open("rb") as opened:
            rows: list[Any] = [*fastavro.reader(opened)]
            found[version] = {one["workflow"]["id"]: one["workflow"]["status"] for one in rows}
    assert said.code == 0, said.err
    assert [line.split(" (")[0] for line in said.out.splitlines()] == [
        "travel.v1.avro: 4 workflows of travel v1",
        "travel.v2.avro: 1 workflow of travel v2",
    ]
    assert {*found[1]} == {"smooth", "full", "poor", "open"}
    assert found[2] == {"insured": "completed"}
    assert [line.split()[0] for line in shown.out.splitlines()] == [
        *("travel", "workflow", "full", "open", "poor", "smooth"),
        *("travel", "workflow", "insured"),
    ]
    assert "left out" not in said.err + shown.err
    assert [(one["version"], {each["workflow"]["id"] for each in one["workflows"]}) for one in data.json] == [
        (1, {"smooth", "full", "poor", "open"}),
        (2, {"insured"}),
    ]
    assert [(one["version"], one["written"]) for one in as_json.json] == [(1, "travel.v1.avro"), (2, "travel.v2.avro")]


def test_two_contracts_of_one_version_are_refused(fleet: Harness, contracts: Commands) -> None:
    said = contracts("state", "travel", "--schemas", "contracts", "--schemas", "contracts")

    assert (said.code, said.err) == (2, "error: found versions 1, 1 of saga 'travel'; expected each of them once\n")


def test_a_workflow_of_a_version_that_is_not_at_hand_is_named(fleet: Harness, contracts: Commands) -> None:
    for participant in participants(Script(), versions=(1, 2)):
        fleet.deploy(participant)
    fleet.start(TripBooked(trip="insured"), workflow_id="insured")
    fleet.settle()

    said = contracts("state", "travel", "--schemas", "contracts", "-o", "travel.avro")

    assert said.code == 1
    assert "insured: " in said.err
    assert (
        "name the contracts of version 2 too (--schemas DIR or --version N, once for each version), or add --partial"
        in said.err
    )


def test_a_table_has_a_row_for_each_workflow_and_is_replaced_on_request_only(fleet: Harness, contracts: Commands) -> None:
    first = contracts("state", "travel", "--schemas", "contracts", "--to", "sqlite:///analysis.db")
    again = contracts("state", "travel", "--schemas", "contracts", "--to", "sqlite:///analysis.db")
    replaced = contracts("state", "travel", "--schemas", "contracts", "--to", "sqlite:///analysis.db", "--replace")

    assert (first.code, again.code, replaced.code) == (0, 2, 0)
    assert "add --replace to drop it" in again.err
    with closing(sqlite3.connect(contracts.folder / "analysis.db")) as connection:
        rows = connection.execute(
            "SELECT id, status, pay_status, pay_event, json_extract(pay, '$.trip'), holes FROM travel_v1 ORDER BY id"
        ).fetchall()
    assert rows == [
        ("full", "compensated", "skipped", None, None, None),
        ("open", "in_progress", "idle", None, None, None),
        ("poor", "compensated", "failed", "travel.TripDeclined", "poor", None),
        ("smooth", "completed", "done", "travel.TripPaid", "smooth", None),
    ]


def test_what_is_not_whole_is_refused_and_nothing_is_written(fleet: Harness, contracts: Commands) -> None:
    lose(fleet, "FlightBooked")

    as_file = contracts("state", "travel", "--schemas", "contracts", "-o", "travel.avro")
    as_table = contracts("state", "travel", "--schemas", "contracts", "--to", "sqlite:///analysis.db")

    assert (as_file.code, as_table.code) == (1, 1)
    assert "  smooth: step pay is done, but FlightBooked, which triggers it, is missing\n" in as_file.err
    assert "1 workflow is not whole, nothing was written; add --partial to take what is there" in as_file.err
    assert not (contracts.folder / "travel.avro").exists()
    with closing(sqlite3.connect(contracts.folder / "analysis.db")) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_a_partial_result_is_marked_wherever_it_goes(fleet: Harness, contracts: Commands) -> None:
    lose(fleet, "FlightBooked")

    as_file = contracts("state", "travel", "--schemas", "contracts", "-o", "travel.avro", "--partial")
    as_table = contracts("state", "travel", "--schemas", "contracts", "--to", "sqlite:///analysis.db", "--partial")
    shown = contracts("state", "travel", "--schemas", "contracts", "--partial")

    assert (as_file.code, as_table.code, shown.code) == (0, 0, 0)
    holes = contracts.folder / "travel.avro.holes.json"
    assert [*json.loads(holes.read_text())] == ["smooth"]
    with closing(sqlite3.connect(contracts.folder / "analysis.db")) as connection:
        marked = connection.execute("SELECT id FROM travel_v1 WHERE holes IS NOT NULL").fetchall()
    assert marked == [("smooth",)]
    assert "completed, not whole" in shown.out

    assert contracts("state", "travel", "--schemas", "contracts", "-o", "travel.avro", "--workflow", "poor").code == 0
    assert not holes.exists()


def test_a_file_that_is_not_whole_is_not_there_without_its_marks(fleet: Harness, contracts: Commands) -> None:
    lose(fleet, "FlightBooked")
    (contracts.folder / "travel.avro.holes.json").mkdir()  # so that they cannot be written

    said = contracts("state", "travel", "--schemas", "contracts", "-o", "travel.avro", "--partial")

    assert said.code == 1
    assert [file.name for file in contracts.folder.iterdir() if file.name.startswith("travel")] == ["travel.avro.holes.json"]


def test_a_partition_that_does_not_begin_at_its_beginning_is_told_where_the_rest_is_whole(
    fleet: Harness, contracts: Commands
) -> None:
    for partition, log in fleet.broker.logs.items():
        if partition.number == 0 and not partition.topic.endswith(".acks"):
            fleet.broker.begins[partition] = len(log)

    said = contracts("state", "travel", "--schemas", "contracts")

    assert said.code == 0
    assert "  travel.events/0 begins at offset" in said.err


def test_the_terminal_is_told_nothing_partial_unasked(fleet: Harness, contracts: Commands) -> None:
    lose(fleet, "FlightBooked")

    said = contracts("state", "travel", "--schemas", "contracts")

    assert (said.code, said.out) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["travel"], "no contracts are at hand; add --schemas DIR or --registry URL"),
        (["checkout", "--schemas", "contracts"], "found the contracts of saga travel; expected 'checkout'"),
        (["travel", "--schemas", "contracts", "-o", "travel.csv"], "expected FILE.avro, sqlite:///FILE or postgresql://"),
        (["travel", "--schemas", "contracts", "--at", "yesterday"], "expected a moment such as 2026-03-01T14:00:00Z"),
        (["travel", "--schemas", "contracts", "--from", "none.avro"], "there is no file none.avro"),
    ],
)
def test_wrong_use_says_what_to_do(fleet: Harness, contracts: Commands, arguments: list[str], expected: str) -> None:
    said = contracts("state", *arguments)

    assert said.code in {1, 2}
    assert expected in " ".join(said.err.replace("│", " ").split())


def test_topics_that_do_not_exist_are_named(contracts: Commands, fleet: Harness) -> None:
    del fleet.broker.logs[Partition("travel.events", 0)]
    fleet.broker._counts.pop("travel.events")

    said = contracts("state", "travel", "--schemas", "contracts")

    assert said.code == 1
    assert "waiting for topic travel.events" in said.err


@pytest.mark.parametrize("place", ["nowhere/travel.avro", "sqlite:///nowhere/travel.db"])
def test_a_place_that_cannot_be_written_is_named_in_a_line(fleet: Harness, contracts: Commands, place: str) -> None:
    said = contracts("state", "travel", "--schemas", "contracts", "--to", place)

    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[-1] in {
        "error: nowhere/travel.avro.part: No such file or directory",
        "error: the table was not written: unable to open database file",
    }


def test_before_its_first_record_a_workflow_is_not_told_to_be_unknown(fleet: Harness, contracts: Commands) -> None:
    said = contracts("state", "travel", "--schemas", "contracts", "--workflow", "smooth", "--at", "2026-03-01T14:00:00Z")

    assert (said.code, said.out) == (1, "")
    assert "hold nothing about smooth by 2026-03-01 14:00:00Z; check the id, and --at" in said.err


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("u:pa55 word@127.0.0.1:9/analysis", "is no connection string of PostgreSQL; expected"),
        ("u:pa55%zz@127.0.0.1:9/analysis", "is no connection string of PostgreSQL; expected"),
        ("u:pa55@127.0.0.1:9/analysis", "127.0.0.1:9/analysis cannot be reached"),
    ],
)
def test_an_address_where_no_table_can_be_written_is_told_without_its_password(
    fleet: Harness, contracts: Commands, address: str, told: str
) -> None:
    said = contracts("state", "travel", "--schemas", "contracts", "--to", f"postgresql://{address}")

    assert told in said.err
    assert "orrect --to" in said.err
    assert "pa55" not in said.err
