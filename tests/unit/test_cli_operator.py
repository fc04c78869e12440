"""The commands with which an operator finds what is parked, and ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from saga.cli import arguments
from saga.cli.looking.fingerprint import fingerprint
from saga.contracts.message import from_headers
from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus
from saga.store.port import Changes
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Fence, Workflow
from services.stock.app import stock
from tests.commands import Commands, Said
from tests.laid import sqlite_store

Saga = Callable[..., Said]
OPENED = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
DUE = datetime(2099, 1, 1, tzinfo=UTC)
STOCK = "services.stock.app:stock"
RESERVED = stock.codec.encode("checkout.StockReserved", {"order_id": "w1", "units": 2, "country": "Spain"})


@pytest.fixture
def saga(tmp_path: Path) -> Saga:
    """Commands that find the database `stock.db`."""
    return partial(Commands(tmp_path), SAGA_DATABASE="sqlite:///stock.db")


@contextmanager
def database(folder: Path) -> Iterator[SqliteStore]:
    with closing(sqlite_store(folder / "stock.db")) as store:
        yield store


def action(error: str = "OSError: shelf 7 is away", **fields: Any) -> Fence:
    """A parked action; it waits for an operator."""
    return Fence(**{"step": "reserve", "status": StepStatus.IDLE, "attempt": 12, "error": error, "changed": OPENED, **fields})


def undoing(**fields: Any) -> Fence:
    """A stuck compensation."""
    kept = {"status": StepStatus.STUCK, "event": "checkout.StockReserved", "result": RESERVED}
    return action(**{**kept, **fields})


def known(folder: Path, saga: str = "checkout", **fences: Fence | None) -> None:
    """A database with these open workflows, each a second younger than the one before."""
    workflows = [
        Workflow(id=id_, version=1, lane=0, opened=OPENED + timedelta(seconds=number)) for number, id_ in enumerate(fences)
    ]
    with database(folder) as store, store.unit() as unit:
        unit.save(saga, Changes(workflows=workflows, fences=[(id_, fence) for id_, fence in fences.items() if fence]))


def found(folder: Path, id_: str = "w1", saga: str = "checkout") -> Workflow:
    with database(folder) as store, store.unit() as unit:
        return unit.load(saga, [id_])[id_]


def facts(folder: Path, id_: str = "w1") -> list[tuple[str, FactStatus]]:
    """What the outbox says of the workflow, in order."""
    with database(folder) as store:
        [(_, _, rows)] = store.find(id_)
    kinds = [
        from_headers({k: v.encode() for k, v in row.headers}, row.payload, topic=row.topic, partition=row.lane).kind
        for row in rows
    ]
    return [(kind.step, kind.status) for kind in kinds]


# --- list


def test_a_retry_is_not_noted_in_the_name_of_another(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=action())
    with database(tmp_path) as store:
        store.release(store.claim("checkout", 0, 4, "stock"))

    said = saga("retry", "w1", "--participant", "payments")

    assert said.code == 2
    assert "found the database of participant 'stock'; expected that of 'payments'" in said.err
    assert facts(tmp_path) == []


def test_a_list_that_is_cut_short_says_so(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=None, w2=None, w3=None)

    cut, whole = saga("list", "--limit", "2"), saga("list", "--limit", "3")
    more = [saga("list", "--limit", limit, "--json").json["more"] for limit in ("2", "3")]

    assert (cut.err, whole.err) == ("these are the first 2; there are more: see --limit\n", "")
    assert more == [True, False]


def test_the_latest_workflows_come_first(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=None, w2=None, w3=None)

    rows = saga("list", "--limit", "2").out.splitlines()

    assert rows[0].split()[:3] == ["workflow", "saga", "status"]
    assert [row.split()[:4] for row in rows[1:]] == [
        ["w3", "checkout", "v1", "in_progress"], ["w2", "checkout", "v1", "in_progress"],
    ]  # fmt: skip


def test_what_is_parked_says_until_when(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=action(), w2=action(due=DUE), w3=None)

    _, first, second = saga("list", "--parked").out.splitlines()

    assert first.startswith("w1 ")
    assert first.endswith(" reserve, waits for an operator")
    assert second.endswith(" reserve, next try 2099-01-01 00:00:00Z")


def test_workflows_with_exceptions_are_told_apart(saga: Saga, tmp_path: Path) -> None:
    excepted = Workflow(
        id="w1", version=1, lane=0, status=WorkflowStatus.COMPENSATED, opened=OPENED, closed=OPENED,
        exceptions=frozenset({"reserve"}),
    )  # fmt: skip
    known(tmp_path, w2=None)
    with database(tmp_path) as store, store.unit() as unit:
        unit.save("checkout", Changes(closed=[excepted]))

    _, row = saga("list", "--with-exceptions").out.splitlines()
    (one,) = saga("list", "--with-exceptions", "--json").json["workflows"]
    headline = saga("show", "w1").out.splitlines()[0]
    shown = saga("show", "w1", "--json").json["workflows"][0]

    assert row.startswith("w1        checkout v1  compensated with exceptions  ")
    assert one["exceptions"] == shown["exceptions"] == ["reserve"]
    assert headline == "checkout v1 w1: COMPENSATED WITH EXCEPTIONS (reserve) after 0 s"


def test_an_alarm_of_an_open_workflow_is_listed_and_shown(saga: Saga, tmp_path: Path) -> None:
    alarm = "unwinding has lasted for more than 1:00:00; awaited: reserve by stock"
    late = Workflow(id="w1", version=1, lane=0, opened=OPENED, status=WorkflowStatus.FAILED, error=alarm)
    due = Workflow(id="w2", version=1, lane=0, opened=OPENED, status=WorkflowStatus.FAILED, unwind_by=DUE)
    known(tmp_path)
    with database(tmp_path) as store, store.unit() as unit:
        unit.save("checkout", Changes(workflows=[late, due]))

    rows = saga("list").out.splitlines()
    shown = [saga("show", id_).out for id_ in ("w1", "w2")]

    assert rows[1].endswith(alarm)
    assert f"  ! {alarm}\n" in shown[0]
    assert "unwound by 2099-01-01 00:00:00Z" in shown[1]


def test_a_list_as_data_names_the_errors(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=action())

    (one,) = saga("list", "--parked", "--json").json["workflows"]

    assert (one["saga"], one["id"], one["status"], one["moved"]) == ("checkout", "w1", "in_progress", OPENED.isoformat())
    assert one["parked"] == [
        {"step": "reserve", "status": "idle", "attempt": 12, "due": None, "error": "OSError: shelf 7 is away"}
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--status", "in_progress"], ["w2", "r1", "w1"]),
        (["--status", "completed"], ["old"]),
        (["--saga", "returns"], ["r1"]),
        (["--version", "2"], []),
        (["--stuck-for", "PT1H"], ["r1", "w1", "w2"]),
        (["--stuck-for", "P9999D"], []),
    ],
    ids=" ".join,
)
def test_lists_are_narrowed(saga: Saga, tmp_path: Path, options: list[str], expected: list[str]) -> None:
    known(tmp_path, w1=None, w2=None)
    known(tmp_path, "returns", r1=None)
    ended = Workflow(
        id="old", version=1, lane=0, status=WorkflowStatus.COMPLETED, opened=OPENED - timedelta(days=1), closed=OPENED
    )
    with database(tmp_path) as store, store.unit() as unit:
        unit.save("checkout", Changes(closed=[ended]))

    said = saga("list", *options, "--json")

    assert [one["id"] for one in said.json["workflows"]] == expected


def test_a_span_that_is_none_is_wrong_use(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path)

    said = saga("list", "--stuck-for", "60")

    assert said.code == 2
    assert "expected a span such as 90s, 10m, 2h, 7d or PT2H" in said.err


def test_an_empty_list_is_told_on_stderr(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path)

    said = saga("list")

    assert (said.code, said.out, said.err) == (0, "", "no workflow in sqlite:///stock.db is so\n")


# --- parked


@pytest.mark.parametrize(
    ("error", "same"),
    [
        ("OSError: shelf 7 is away", "OSError: shelf # is away"),
        ("no answer from 10.0.0.3:8080 after 2.5 s", "no answer from # after # s"),
        ("order 9f1c2d3e-0a1b-4c5d-8e9f-001122334455 is odd", "order # is odd"),
        ("object at 0x7f00a1b2c3d4", "object at #"),
        ("trace deadbeef01 of w1", "trace # of #"),
        ("first\nsecond", "first"),
        ("effaced facade", "effaced facade"),
        ("KeyError: 'size'", "KeyError: 'size'"),
        ("KeyError: 'MUG-12'", "KeyError: #"),
        ('no shelf for "Anna Smith"', "no shelf for #"),
        ("can't open w1's box, isn't it 'a b'", "can't open #'s box, isn't it #"),
        ("late since 2026-03-01T03:00:00.25+00:00", "late since #"),
        ("trace 4bf92f3577b34da6a3ce929d0e0e4736", "trace #"),
        ("waits for courier-api: ReadTimeout: no answer", "waits for courier-api"),
        ("", "no text"),
    ],
)
def test_errors_are_the_same_if_only_numbers_and_ids_differ(error: str, same: str) -> None:
    assert fingerprint(error, "w1") == same


def test_an_id_that_is_a_part_of_words_leaves_them_whole() -> None:
    assert fingerprint("no table meals for a", "a") == "no table meals for #"


def test_parked_workflows_are_grouped_by_cause(saga: Saga, tmp_path: Path) -> None:
    known(
        tmp_path,
        w1=action("shelf 1 is away"),
        w2=action("shelf 2 is away", due=DUE),
        w3=action("no such country"),
        w4=action("shelf 4 is away", due=DUE + timedelta(days=1)),
        w5=None,
    )

    groups = saga("parked", "--json").json["groups"]

    assert groups == [
        {
            "saga": "checkout", "step": "reserve", "error": "shelf # is away", "count": 3, "for_operator": 1,
            "oldest": OPENED.isoformat(), "due": DUE.isoformat(), "workflows": ["w1", "w2", "w4"],
        },
        {
            "saga": "checkout", "step": "reserve", "error": "no such country", "count": 1, "for_operator": 1,
            "oldest": (OPENED + timedelta(seconds=2)).isoformat(), "due": None, "workflows": ["w3"],
        },
    ]  # fmt: skip


def test_a_group_is_a_line_with_an_example(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=action("shelf 1 is away"), w2=action("shelf 2 is away"))

    _, line = saga("parked").out.splitlines()

    assert line.split() == ["2", "checkout", "reserve", "2026-03-01", "03:00:00Z", "2", "shelf", "#", "is", "away", "w1"]


def test_nothing_parked_is_told_on_stderr(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=None)

    said = saga("parked")

    assert (said.code, said.out, said.err) == (0, "", "nothing is parked in sqlite:///stock.db\n")


# --- retry


def test_a_retry_is_due_at_once_with_its_attempts_counted_anew(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=action(), w2=action())
    before = datetime.now(UTC)

    said = saga("retry", "w1")

    fence = found(tmp_path).fences["reserve"]
    assert (said.code, said.out) == (0, "checkout w1 is tried again now\n")
    assert fence.due is not None
    assert before <= fence.due <= datetime.now(UTC)
    assert (fence.attempt, fence.error, fence.status) == (0, "OSError: shelf 7 is away", StepStatus.IDLE)
    assert found(tmp_path, "w2").fences["reserve"] == action()


def test_what_is_not_parked_is_named_and_the_others_are_tried(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=action(), w2=None)

    said = saga("retry", "w2", "w1", "w9")

    assert (said.code, said.out) == (1, "checkout w1 is tried again now\n")
    assert [line for line in said.err.splitlines() if line.startswith("error: ")] == [
        f"error: not parked in sqlite:///stock.db: {id_}. See: saga parked" for id_ in ("w2", "w9")
    ]


@pytest.mark.parametrize("text", ["shelf # is AWAY", "reserve: shelf", "shelf 1"])
def test_all_that_match_a_text_are_tried(saga: Saga, tmp_path: Path, text: str) -> None:
    known(tmp_path, w1=action("shelf 1 is away"), w2=action("shelf 1 is away too"), w3=action("no such country"))
    known(tmp_path, "returns", r1=action("shelf 1 is away"))

    said = saga("retry", "--all-matching", text, "--json")

    assert said.json["done"] == [
        {"saga": "returns", "workflow": "r1"}, {"saga": "checkout", "workflow": "w1"}, {"saga": "checkout", "workflow": "w2"},
    ]  # fmt: skip
    assert found(tmp_path, "w3").fences["reserve"].due is None
    assert found(tmp_path, "r1", "returns").fences["reserve"].due is not None


def test_a_dry_run_changes_nothing(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=action())

    said = saga("retry", "--all-matching", "shelf", "--dry-run")

    assert said.out == "checkout w1 would be tried again\n"
    assert found(tmp_path).fences["reserve"] == action()


def test_a_text_that_nothing_matches_is_not_found(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=action())

    said = saga("retry", "--all-matching", "courier")

    assert (said.code, said.out) == (1, "")
    assert "error: nothing in sqlite:///stock.db is so" in said.err


@pytest.mark.parametrize("arguments", [[], ["w1", "--all-matching", "x"], ["--all-matching", ""]], ids=str)
def test_a_retry_says_which(saga: Saga, tmp_path: Path, arguments: list[str]) -> None:
    known(tmp_path, w1=action())

    said = saga("retry", *arguments)

    assert said.code == 2
    assert "either the id of a workflow, or what all of them have in common (--all-matching TEXT" in said.err
    assert found(tmp_path).fences["reserve"] == action()


# --- skip, resolve, abort


def test_a_skip_leaves_a_tombstone_and_a_wish_to_unwind(saga: Saga, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    known(tmp_path, w1=action())

    said = saga("skip", STOCK, "w1", "reserve", "--reason", "shelf burnt", "--by", "alice")

    assert (said.code, said.out) == (
        0, "step reserve of checkout w1 is skipped, and the workflow unwinds; see: saga show w1\n",
    )  # fmt: skip
    assert found(tmp_path).fences["reserve"].status is StepStatus.SKIPPED
    assert facts(tmp_path) == [("reserve", FactStatus.SKIPPED), ("", FactStatus.ABORT)]
    assert "by alice: shelf burnt" in caplog.text


def test_a_refusal_changes_nothing_and_says_what_to_do(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=undoing())

    said = saga("skip", STOCK, "w1", "reserve", "--reason", "shelf burnt")

    assert said.code == 1
    assert "retry its compensation, or resolve it with checkout.StockReleased" in said.err
    assert found(tmp_path).fences["reserve"] == undoing()


@pytest.mark.parametrize(
    ("fence", "event", "fields", "status"),
    [
        (action(), "OutOfStock", '{"order_id": "w1", "sku": "MUG", "wanted": 2, "available": 1}', StepStatus.FAILED),
        (action(), "StockReserved", '{"order_id": "w1", "units": 2, "country": "Spain"}', StepStatus.DONE),
        (undoing(), "checkout.StockReleased", '{"order_id": "w1", "units": 2}', StepStatus.COMPENSATED),
    ],
    ids=["failed", "done", "compensated"],
)
def test_an_outcome_is_stated_with_its_fields(
    saga: Saga, tmp_path: Path, fence: Fence, event: str, fields: str, status: StepStatus
) -> None:
    known(tmp_path, w1=fence)

    said = saga("resolve", STOCK, "w1", "reserve", "--event", event, "--fields", fields, "--reason", "counted", "--json")

    assert said.code == 0, said.err
    assert said.json["event"] == stock.saga.event(event)
    assert found(tmp_path).fences["reserve"].status is status
    assert facts(tmp_path) == [("reserve", FactStatus(status)), ("reserve", FactStatus.NOTE)]


@pytest.mark.parametrize(
    ("event", "fields", "told"),
    [
        ("StockReleased", "units=2", "--fields is no JSON"),
        ("StockReleased", '{"order_id": "w1", "unit": 2}', "expected an object of order_id, units"),
        ("StockReleased", "[]", "expected an object of the event's fields"),
        ("StockReleased", '{"order_id": "w1", "units": "many"}', "the fields do not make a checkout.StockReleased: units: "),
        ("OrderCancelled", "{}", "cannot end with checkout.OrderCancelled; expected checkout."),
        ("NoSuchEvent", "{}", "has no event 'NoSuchEvent'"),
    ],
)
def test_an_event_that_cannot_be_is_wrong_use(saga: Saga, tmp_path: Path, event: str, fields: str, told: str) -> None:
    known(tmp_path, w1=undoing())

    said = saga("resolve", STOCK, "w1", "reserve", "--event", event, "--fields", fields, "--reason", "counted")

    assert said.code == 2
    assert told in said.err
    assert found(tmp_path).fences["reserve"] == undoing()


def test_an_abort_is_a_fact_that_says_who_and_why(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=action())

    said = saga("abort", STOCK, "w1", "--reason", "the customer called", "--by", "alice", "--json")

    assert said.json == {
        "database": "sqlite:///stock.db", "verb": "abort", "step": None, "event": None, "reason": "the customer called",
        "by": "alice", "dry_run": False, "many": False, "left": 0, "refused": [], "differing": [],
        "done": [{"saga": "checkout", "workflow": "w1"}],
    }  # fmt: skip
    assert facts(tmp_path) == [("", FactStatus.ABORT)]


def test_an_unknown_workflow_cannot_be_aborted(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path)

    said = saga("abort", STOCK, "w9", "--reason", "the customer called")

    assert said.code == 1
    assert "participant 'stock' knows none of this id; see: saga list" in said.err


def test_whoever_asks_is_the_login_name_behind_sudo_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "bob")
    behind = arguments.person(None)
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setenv("LOGNAME", "carol")

    assert (arguments.person("alice"), behind, arguments.person(None)) == ("alice", "bob", "carol")


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr("getpass.getuser", nameless)

    assert arguments.person(None).startswith("uid ")
