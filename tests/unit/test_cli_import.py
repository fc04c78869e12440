"""`saga import` and `saga drain`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from saga.cli.running import importing
from saga.cli.running.records import rows
from saga.errors import DefinitionError, StoreError
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.store.dead_letter import DeadLetter, Place, Reason
from saga.store.port import Changes, Transaction
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Workflow
from tests.commands import Commands, Said
from tests.laid import sqlite_store

OPENED = datetime(2026, 3, 1, tzinfo=UTC)
ORDER = {"order_id": "o", "units": 2, "country": "Spain"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with closing(sqlite_store(tmp_path / "stock.db")) as store:
        store.release(store.claim("checkout", 0, 4))
    return tmp_path


def imported(folder: Path, file: str, *more: str) -> Said:
    command = ("import", "services.stock.app:stock", "reserve", file, "--id", "order_id", *more)
    return Commands(folder)(*command, SAGA_DATABASE="sqlite:///stock.db")


def written(folder: Path, *orders: object, name: str = "orders.jsonl") -> str:
    (folder / name).write_bytes(b"\n".join(order if isinstance(order, bytes) else orjson.dumps(order) for order in orders))
    return name


def known(folder: Path, *ids: str) -> dict[str, StepStatus]:
    with closing(SqliteStore(folder / "stock.db")) as store, store.unit() as unit:
        return {id_: workflow.fences["reserve"].status for id_, workflow in unit.load("checkout", ids).items()}


def test_records_become_workflows_in_which_the_step_is_done(folder: Path) -> None:
    file = written(folder, ORDER | {"order_id": "o-1"}, ORDER | {"order_id": "o-2", "units": "3"})

    said = imported(folder, file)

    assert (said.code, said.out) == (0, "2 imported into checkout as reserve done, 0 known already, 0 refused\n")
    assert known(folder, "o-1", "o-2") == {"o-1": StepStatus.DONE, "o-2": StepStatus.DONE}
    with closing(SqliteStore(folder / "stock.db")) as store:
        lanes = [row for lane in range(4) for row in store.pending("checkout", lane, 10)]
        assert sorted((row.workflow_id, row.type) for row in lanes) == [
            ("o-1", "checkout.StockReserved"), ("o-2", "checkout.StockReserved"),
        ]  # fmt: skip


def test_a_file_may_be_given_again_with_more_in_it(folder: Path) -> None:
    imported(folder, written(folder, ORDER | {"order_id": "o-1"}))

    said = imported(folder, written(folder, ORDER | {"order_id": "o-1"}, ORDER | {"order_id": "o-2"}), "--json")

    assert (said.code, said.json["imported"], said.json["known"]) == (0, 1, 1)


def test_what_is_wrong_is_told_by_its_line_and_the_rest_is_imported(folder: Path) -> None:
    file = written(
        folder,
        ORDER | {"order_id": "o-1"},
        b"{",
        ORDER | {"units": "many"},
        {"units": 1},
        b"[]",
        ORDER | {"order_id": "o" * 600},
    )

    said = imported(folder, file)

    assert said.code == 1
    assert said.out.startswith("1 imported into checkout as reserve done, 0 known already, 5 refused\n  line 2: no JSON")
    assert "line 3: units: found 'many'; expected long" in said.out
    assert "line 4: found None as order_id; expected the id of a workflow" in said.out
    assert "line 5: found list; expected an object" in said.out
    assert "line 6: found an id of 600 characters; expected at most 512 bytes" in said.out
    assert known(folder, "o-1") == {"o-1": StepStatus.DONE}


def test_two_records_of_one_workflow_that_differ_are_no_record_that_is_known_already(folder: Path) -> None:
    first = ORDER | {"order_id": "o-1"}
    file = written(folder, first, first | {"units": 99}, dict(reversed(first.items())))

    said = imported(folder, file)

    assert said.code == 1
    assert said.out == (
        "1 imported into checkout as reserve done, 1 known already, 1 refused\n"
        "  line 2: o-1 stands in line 1 already, with other fields; expected one record of each\n"
    )


def test_a_program_is_told_of_what_is_wrong_by_its_line(folder: Path) -> None:
    said = imported(folder, written(folder, ORDER | {"order_id": "o-1"}, b"{"), "--json")

    assert said.code == 1
    assert (said.json["imported"], [*said.json["refused"]]) == (1, ["2"])
    assert "no JSON" in said.json["refused"]["2"]


def test_a_dry_run_says_what_would_happen_and_writes_nothing(folder: Path) -> None:
    said = imported(folder, written(folder, ORDER | {"order_id": "o-1"}), "--dry-run")

    assert (said.code, said.out[:25]) == (0, "1 would be imported into ")
    assert known(folder, "o-1") == {}


def test_comma_separated_values_do_as_well(folder: Path) -> None:
    (folder / "orders.csv").write_text("order_id,units,country\no-1,2,Spain\no-2,3\n")

    said = imported(folder, "orders.csv")

    assert said.code == 1
    assert "line 3: expected 3 values, as in the first line" in said.out
    assert known(folder, "o-1") == {"o-1": StepStatus.DONE}


def test_a_table_with_two_columns_of_one_name_is_refused(folder: Path) -> None:
    (folder / "orders.csv").write_text("order_id,units,country,units\no-1,2,Spain,3\n")

    said = imported(folder, "orders.csv")

    assert (said.code, known(folder, "o-1")) == (2, {})
    assert said.err == "error: orders.csv: found two columns 'units'; expected each name once in the first line\n"


def test_a_table_as_a_spreadsheet_saves_it_begins_with_a_mark_that_is_no_part_of_a_name(folder: Path) -> None:
    (folder / "orders.csv").write_text("order_id,units,country\no-1,2,Spain\n", encoding="utf-8-sig")

    assert imported(folder, "orders.csv").out == "1 imported into checkout as reserve done, 0 known already, 0 refused\n"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b"o-2,3,Espa\xf1a", "it is no UTF-8"),
        (b"o-2,3," + b"x" * 140_000, "behind line 2: field larger than field limit"),
    ],
)
def test_a_table_that_cannot_be_read_to_its_end_is_refused_before_anything_is_done(folder: Path, row: bytes, why: str) -> None:
    (folder / "orders.csv").write_bytes(b"order_id,units,country\no-1,2,Spain\n" + row + b"\n")

    said = imported(folder, "orders.csv")

    assert said.code == 2
    assert said.err.startswith(f"error: orders.csv: {why}")
    assert known(folder, "o-1") == {}


def test_what_cannot_be_imported_is_refused_with_the_way_on(folder: Path) -> None:
    file = written(folder, ORDER)
    command = Commands(folder)

    assert (
        "Its steps are reserve"
        in command("import", "services.stock.app:stock", "ship", file, SAGA_DATABASE="sqlite:///stock.db").err
    )
    assert "of version 1; found 9" in imported(folder, file, "--saga-version", "9").err
    with pytest.raises(DefinitionError, match=r"expected .jsonl or .csv"):
        next(rows(folder / "orders.xml"))


def test_a_version_of_which_records_wait_for_newer_code_is_not_drained(folder: Path) -> None:
    place = Place("checkout", "checkout.events", 0, 7)
    letter = DeadLetter(
        place=place, key=b"w", value=b"", headers=(), reason=Reason.UNKNOWN_VERSION, error="", recorded=datetime.now(UTC),
        workflow_id="w", version=3,
    )  # fmt: skip
    with closing(sqlite_store(folder / "stock.db")) as store, store.unit() as unit:
        unit.bury([letter])

    said = Commands(folder)("drain", "checkout", "--version", "3", SAGA_DATABASE="sqlite:///stock.db")
    other = Commands(folder)(
        "drain", "checkout", "--version", "2", "--never-seen", "--json", SAGA_DATABASE="sqlite:///stock.db"
    )

    assert said.code == 1
    assert "1 record of v3 waits for code that knows it: saga dead-letters list" in said.err
    assert (other.code, other.json["queued"]) == (0, 0)


def ended(folder: Path, id_: str) -> None:
    workflow = Workflow(id=id_, version=1, lane=0, status=WorkflowStatus.COMPLETED, opened=OPENED, closed=OPENED)
    with closing(SqliteStore(folder / "stock.db")) as store, store.unit() as unit:
        unit.save("checkout", Changes(closed=[workflow]))


def test_a_version_is_drained_when_nothing_of_it_is_left(folder: Path) -> None:
    drain = Commands(folder)

    ended(folder, "o-0")
    empty = drain("drain", "checkout", "--version", "1", SAGA_DATABASE="sqlite:///stock.db")
    imported(folder, written(folder, ORDER | {"order_id": "o-1"}))
    busy = drain("drain", "checkout", "--version", "1", "--json", SAGA_DATABASE="sqlite:///stock.db")

    assert (busy.code, busy.json["drained"], busy.json["open"], busy.json["unpublished"]) == (1, False, 1, 1)
    assert (empty.code, empty.out) == (0, "checkout v1 is drained in sqlite:///stock.db\n")


def test_a_version_of_which_nothing_was_ever_here_is_not_taken_for_drained(folder: Path) -> None:
    drain = Commands(folder)

    before = drain("drain", "checkout", "--version", "1", SAGA_DATABASE="sqlite:///stock.db")
    ended(folder, "o-1")
    mistyped = drain("drain", "checkout", "--version", "11", SAGA_DATABASE="sqlite:///stock.db")
    meant = drain("drain", "checkout", "--version", "11", "--never-seen", SAGA_DATABASE="sqlite:///stock.db")

    assert (before.code, before.out) == (mistyped.code, mistyped.out) == (1, "")
    assert "no workflow of checkout v1 was ever seen" in before.err
    assert "there is no workflow at all" in before.err
    assert "no workflow of checkout v11 was ever seen" in mistyped.err
    assert "the latest workflow is of v1. Correct the number, or say --never-seen" in mistyped.err
    assert (meant.code, meant.out) == (0, "checkout v11 is drained in sqlite:///stock.db\n")


def test_a_saga_of_which_nothing_was_ever_here_is_not_taken_for_drained(folder: Path) -> None:
    imported(folder, written(folder, ORDER | {"order_id": "o-1"}))
    with closing(SqliteStore(folder / "stock.db")) as store:
        store.claim("checkout", 0, 4)

    said = Commands(folder)("drain", "chekout", "--version", "1", SAGA_DATABASE="sqlite:///stock.db")

    assert (said.code, said.out) == (1, "")
    assert "in sqlite:///stock.db nothing of a saga 'chekout' was ever seen; it knows checkout. Correct the name" in said.err


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_one_that_is_cut_off_tells_what_was_imported_and_is_ended_by_the_same_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    file = written(folder, *(ORDER | {"order_id": f"o-{number}"} for number in range(5)))
    begin, begun = SqliteStore.transaction, list[SqliteStore]()

    @contextmanager
    def away(store: SqliteStore) -> Iterator[Transaction]:
        begun.append(store)
        with begin(store) as tx:
            yield tx
            if len(begun) == 2:
                raise StoreError("the disk is full")

    monkeypatch.setattr(importing, "AT_ONCE", 2)
    with monkeypatch.context() as patched:
        patched.setattr(SqliteStore, "transaction", away)
        said = imported(folder, file, *more)

    assert said.code == 1
    assert said.err.endswith("error: the disk is full\n")
    if more:
        assert (said.json["imported"], said.json["left"]) == (2, 3)
    else:
        assert said.out == "2 imported into checkout as reserve done, 0 known already, 0 refused\n"
        assert said.err.startswith("3 records left: repeat the command, what is known already is left alone\n")
    assert imported(folder, file).out == "3 imported into checkout as reserve done, 2 known already, 0 refused\n"


def test_ctrl_c_waits_for_the_records_at_hand_and_tells_how_far_it_came(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(folder, *(ORDER | {"order_id": f"o-{number}"} for number in range(5)))
    begin = SqliteStore.transaction

    @contextmanager
    def interrupted(store: SqliteStore) -> Iterator[Transaction]:
        with begin(store) as tx:
            signal.raise_signal(signal.SIGINT)
            yield tx

    monkeypatch.setattr(importing, "AT_ONCE", 2)
    monkeypatch.setattr(SqliteStore, "transaction", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        said = imported(folder, file, "--json")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)

    assert (said.code, said.json["imported"], said.json["left"]) == (130, 2, 3)
