"""An operator's verb on many workflows at once: each by itself, rehearsed or asked for, with a trace."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from saga.cli import output
from saga.cli.acting import selection
from saga.cli.acting.template import Template
from saga.errors import Refused
from saga.protocol.facts import StepStatus
from saga.store.port import Changes
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Fence, Intervention, Workflow
from services.stock.app import stock
from tests.commands import Commands, Said
from tests.laid import sqlite_store

Saga = Callable[..., Said]
OPENED = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
STOCK = "services.stock.app:stock"


@pytest.fixture
def saga(tmp_path: Path) -> Saga:
    """Commands that find the database `stock.db`."""
    return partial(Commands(tmp_path), SAGA_DATABASE="sqlite:///stock.db")


@contextmanager
def database(folder: Path) -> Iterator[SqliteStore]:
    with closing(sqlite_store(folder / "stock.db")) as store:
        yield store


def parked(**fields: Any) -> Fence:
    """An action whose tries are spent."""
    kept = {"status": StepStatus.IDLE, "attempt": 12, "error": "OSError: shelf 7 is away", "changed": OPENED}
    return Fence(step="reserve", **{**kept, **fields})


def stuck(order: str, units: int) -> Fence:
    """A compensation that is to put these units back."""
    result = stock.codec.encode("checkout.StockReserved", {"order_id": order, "units": units, "country": "Spain"})
    return parked(status=StepStatus.STUCK, event="checkout.StockReserved", result=result)


def known(folder: Path, *, claimed: bool = True, registered: bool = False, **fences: Fence) -> None:
    """Open workflows, in the database of stock if it is `claimed`, by a worker with a registry if it is `registered`."""
    workflows = [Workflow(id=id_, version=1, lane=0, opened=OPENED + timedelta(seconds=n)) for n, id_ in enumerate(fences)]
    with database(folder) as store:
        if claimed:
            store.claim("checkout", 0, 4, "stock", registered)
        with store.unit() as unit:
            unit.save("checkout", Changes(workflows=workflows, fences=[*fences.items()]))


def found(folder: Path, id_: str) -> Workflow:
    with database(folder) as store, store.unit() as unit:
        return unit.load("checkout", [id_])[id_]


def records(folder: Path, id_: str, name: str) -> list[dict[str, Any]]:
    with database(folder) as store:
        [(_, _, rows)] = store.find(id_)
    return [stock.codec.decode(name, row.payload) for row in rows if row.type == name]


# --- how far


def test_ctrl_c_waits_for_the_workflow_at_hand_and_it_is_told_how_far_it_came(
    saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(tmp_path, w1=parked(), w2=parked(), w3=parked())
    unit, committed = SqliteStore.unit, []

    @contextmanager
    def interrupted(store: SqliteStore, *, eager: bool = False) -> Iterator[Any]:
        with unit(store, eager=eager) as one:
            yield one
        if eager:
            committed.append(one)
            if len(committed) == 2:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(SqliteStore, "unit", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        said = saga("skip", STOCK, "--step", "reserve", "--all-matching", "shelf", "--reason", "burnt")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)

    assert said.code == 130
    assert [line.split(" is skipped")[0] for line in said.out.splitlines()] == [
        f"step reserve of checkout {id_}" for id_ in ("w1", "w2")
    ]
    assert "skip: 2 done, 0 refused, in sqlite:///stock.db, 1 left: repeat the command for them\n" in said.err


# --- which


def test_all_that_fit_are_skipped_and_the_others_left(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=parked(), w2=parked(error="KeyError: 'size'"), w3=parked())

    said = saga("skip", STOCK, "--step", "reserve", "--all-matching", "shelf", "--reason", "burnt", "--by", "alice")

    assert said.code == 0, said.err
    assert [line.split(" is skipped")[0] for line in said.out.splitlines()] == [
        f"step reserve of checkout {id_}" for id_ in ("w1", "w3")
    ]
    assert said.err.endswith("skip: 2 done, 0 refused, in sqlite:///stock.db\n")
    assert [found(tmp_path, id_).fences["reserve"].status for id_ in ("w1", "w2", "w3")] == ["skipped", "idle", "skipped"]


def test_those_that_fit_are_found_behind_many_that_wait_longer(
    saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MOST", 1)
    known(tmp_path, w1=parked(), w2=parked(), w3=parked(error="KeyError: 'size'"), w4=parked(error="KeyError: 'size'"))

    said = saga("retry", "--all-matching", "KeyError", "--json")
    one = saga("retry", "--all-matching", "KeyError", "--limit", "1", "--json")

    assert [done["workflow"] for done in said.json["done"]] == ["w3", "w4"]
    assert "there are more" not in said.err
    assert len(one.json["done"]) == 1
    assert "the 1 that wait longest; there are more" in one.err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--parked"], ["w1", "w2"]),
        (["--parked", "--limit", "1"], ["w1"]),
        (["--stuck-for", "PT1H"], ["w1", "w2", "w3"]),
        (["--stuck-for", "P9999D"], []),
        (["--status", "in_progress"], ["w1", "w2", "w3"]),
        (["--step", "reserve"], ["w1", "w2"]),
        (["--version", "2"], []),
        (["--all-matching", "shelf", "--step", "confirm"], []),
    ],
    ids=" ".join,
)
def test_workflows_are_narrowed_down_and_what_has_ended_is_left_alone(
    saga: Saga, tmp_path: Path, options: list[str], expected: list[str]
) -> None:
    known(tmp_path, w1=parked(), w2=parked(), w3=Fence(step="reserve", status=StepStatus.DONE, changed=OPENED))

    said = saga("abort", STOCK, *options, "--reason", "flood", "--json")

    assert [one["workflow"] for one in said.json["done"]] == expected
    assert said.code == (0 if expected else 1)
    assert [id_ for id_ in ("w1", "w2", "w3") if found(tmp_path, id_).sequence] == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["abort", STOCK, "--reason", "x"],
        ["abort", STOCK, "w1", "--parked", "--reason", "x"],
        ["skip", STOCK, "w1", "--reason", "x"],
        ["skip", STOCK, "--parked", "--reason", "x"],
        ["skip", STOCK, "w1", "reserve", "--step", "reserve", "--reason", "x"],
        ["resolve", STOCK, "--step", "reserve", "--event", "OutOfStock", "--all-matching", "y", "w1", "--reason", "x"],
    ],
    ids=" ".join,
)
def test_nothing_is_guessed(saga: Saga, tmp_path: Path, arguments: list[str]) -> None:
    known(tmp_path, w1=parked())

    said = saga(*arguments)

    assert said.code == 2
    assert "say which" in said.err
    assert found(tmp_path, "w1").sequence == 0


# --- each by itself


def test_one_that_is_refused_does_not_hold_up_the_others(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=parked(), w2=stuck("w2", 2), w3=parked())

    said = saga("skip", STOCK, "--step", "reserve", "--parked", "--reason", "burnt", "--json")

    assert said.code == 1
    assert [one["workflow"] for one in said.json["done"]] == ["w1", "w3"]
    [refused] = said.json["refused"]
    assert refused["workflow"] == "w2"
    assert "it is being undone: retry its compensation" in refused["why"]


@pytest.mark.parametrize("verb", ["retry", "skip", "abort", "resolve"])
def test_a_dry_run_says_what_would_be_done_and_refused_and_changes_nothing(
    saga: Saga, tmp_path: Path, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    known(tmp_path, w1=parked())
    event = ["--event", "OutOfStock", "--fields", '{"order_id": "{workflow}", "sku": "MUG", "wanted": 2, "available": 1}']
    target, more = ([], []) if verb == "retry" else ([STOCK], ["--reason", "x", *(event if verb == "resolve" else [])])

    said = saga(verb, *target, *more, "--step", "reserve", "--parked", "--dry-run")

    assert said.code == 0, said.err
    assert "would be " in said.out
    assert said.err.endswith(f"{verb}: 1 would be done, 0 refused, in sqlite:///stock.db\n")
    assert (found(tmp_path, "w1").sequence, found(tmp_path, "w1").fences["reserve"]) == (0, parked())
    assert "w1" not in caplog.text


@pytest.mark.parametrize(("answer", "done"), [("no", 0), ("yes", 1)])
def test_a_person_at_a_terminal_is_asked_before_many_are_touched(
    saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, done: int
) -> None:
    known(tmp_path, w1=parked())
    asked: list[str] = []

    def confirm(question: str, *, err: bool) -> bool:
        asked.append(question)
        return answer == "yes"

    monkeypatch.setattr(output, "attended", lambda: True)
    monkeypatch.setattr("typer.confirm", confirm)

    said = saga("abort", STOCK, "--parked", "--reason", "flood")
    by_id = saga("abort", STOCK, "w1", "--reason", "flood", "--dry-run")

    assert asked == ["abort 1 workflow?"]
    assert (said.code, by_id.code) == (1 - done, 0)
    assert found(tmp_path, "w1").sequence == done


def test_who_says_yes_beforehand_is_not_asked(saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known(tmp_path, w1=parked())
    monkeypatch.setattr(output, "attended", lambda: True)

    assert saga("retry", "--parked", "--yes").code == 0


# --- the event for many


def test_one_event_is_filled_in_for_each(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=stuck("order-1", 2), w2=stuck("order-2", 5))
    file = tmp_path / "released.json"
    fields = {"order_id": "{result.order_id}", "units": "{result.units}"}
    file.write_bytes(orjson.dumps({"event": "StockReleased", "fields": fields}))

    said = saga("resolve", STOCK, "--step", "reserve", "--parked", "--event", "released.json", "--reason", "by hand")

    assert said.code == 0, said.err
    released = [records(tmp_path, id_, "checkout.StockReleased") for id_ in ("w1", "w2")]
    assert released == [[{"order_id": "order-1", "units": 2}], [{"order_id": "order-2", "units": 5}]]
    assert [found(tmp_path, id_).exceptions for id_ in ("w1", "w2")] == [{"reserve"}, {"reserve"}]


def test_what_cannot_be_filled_in_is_refused_for_that_workflow_only(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=parked(), w2=stuck("order-2", 5))
    fields = '{"order_id": "{workflow}", "units": "{result.units}"}'

    said = saga(
        "resolve",
        STOCK,
        "--step",
        "reserve",
        "--parked",
        "--event",
        "StockReleased",
        "--fields",
        fields,
        "--reason",
        "x",
        "--json",
    )

    assert [one["workflow"] for one in said.json["done"]] == ["w2"]
    assert "{result.units} in the event cannot be filled in" in said.json["refused"][0]["why"]


@pytest.mark.parametrize("dry_run", [["--dry-run"], []], ids=["tried", "done"])
def test_what_is_stated_otherwise_than_the_step_recorded_it_is_told(saga: Saga, tmp_path: Path, dry_run: list[str]) -> None:
    known(tmp_path, w1=stuck("order-1", 2), w2=stuck("order-2", 5))
    stated = ["reserve", "--event", "StockReleased", "--reason", "by hand", *dry_run, "--fields"]

    said = saga("resolve", STOCK, "w1", *stated, '{"order_id": "order-1", "units": 20}')
    as_json = saga("resolve", STOCK, "w2", *stated, '{"order_id": "order-1", "units": 5}', "--json")

    assert said.code == 0
    assert "w1: units is stated as 20, and step reserve recorded 2" in said.err.splitlines()
    assert "order_id" not in said.err
    assert as_json.json["differing"] == [
        {"workflow": "w2", "field": "order_id", "stated": "order-1", "recorded": "order-2"},
    ]


def test_what_waits_for_no_outcome_is_refused_as_such_and_not_for_what_it_lacks(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=stuck("order-1", 2))
    stated = [
        "reserve",
        "--event",
        "StockReleased",
        "--reason",
        "x",
        "--fields",
        '{"order_id": "{result.order_id}", "units": 2}',
    ]
    saga("resolve", STOCK, "w1", *stated)

    again, unknown = saga("resolve", STOCK, "w1", *stated), saga("resolve", STOCK, "w9", *stated)

    assert "not waiting for an outcome" in again.err
    assert "knows none of this id" in unknown.err


def test_places_are_filled_in_wherever_they_stand() -> None:
    given = Template(
        "E", {"id": "order {workflow}", "units": "{result.units}", "more": [{"of": "{result.units} of {other}"}, 7]}
    )

    assert given.filled("w1", {"units": 3}) == {"id": "order w1", "units": 3, "more": [{"of": "3 of {other}"}, 7]}
    with pytest.raises(Refused, match=r"no such field; found \{workflow\}"):
        given.filled("w1", {})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[]", "expected an object"),
        (b'{"event": "StockReleased"}', 'expected {"event": NAME, "fields"'),
        (b"{", "is no JSON"),
        (b'{"event": "\xff"}', "is no UTF-8"),
    ],
)
def test_a_file_that_holds_no_event_is_wrong_use(saga: Saga, tmp_path: Path, content: bytes, told: str) -> None:
    known(tmp_path, w1=stuck("w1", 2))
    (tmp_path / "it.json").write_bytes(content)

    said = saga("resolve", STOCK, "w1", "reserve", "--event", "it.json", "--reason", "x")

    assert said.code == 2
    assert told in said.err


def test_a_file_that_is_not_there_or_not_alone_is_wrong_use(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=stuck("w1", 2))

    missing = saga("resolve", STOCK, "w1", "reserve", "--event", "it.json", "--reason", "x")
    doubled = saga("resolve", STOCK, "w1", "reserve", "--event", "it.json", "--fields", "{}", "--reason", "x")

    assert (missing.code, doubled.code) == (2, 2)
    assert "cannot be read: No such file" in missing.err
    assert "remove --fields" in doubled.err


# --- the trace


def test_a_retry_from_a_database_alone_leaves_its_note(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=parked())

    said = saga("retry", "w1", "--by", "alice", "--reason", "shelf is back")

    note = {"verb": "retry", "step": "reserve", "event": None, "reason": "shelf is back", "requested_by": "alice"}
    assert (said.code, said.err.count("only this database")) == (0, 0)
    assert records(tmp_path, "w1", "saga.OperatorActed") == [note]
    [kept] = found(tmp_path, "w1").interventions
    assert kept == Intervention("retry", "reserve", None, "shelf is back", "alice", kept.at)


@pytest.mark.parametrize(("options", "notes"), [([], 0), (["--participant", "stock"], 1)])
def test_a_database_that_cannot_tell_whose_it_is_says_so_and_the_retry_is_made(
    saga: Saga, tmp_path: Path, options: list[str], notes: int
) -> None:
    known(tmp_path, claimed=False, w1=parked())

    said = saga("retry", "w1", *options)

    assert said.code == 0
    assert ("only this database will know of it" in said.err) == (not notes)
    assert len(records(tmp_path, "w1", "saga.OperatorActed")) == notes
    assert found(tmp_path, "w1").fences["reserve"].due is not None
    assert len(found(tmp_path, "w1").interventions) == 1


def test_a_registry_that_is_away_does_not_stop_a_retry(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=parked())

    said = saga("retry", "w1", SAGA_REGISTRY="http://127.0.0.1:9/")

    assert said.code == 0
    assert "only this database will know of it" in said.err
    assert found(tmp_path, "w1").fences["reserve"].due is not None


def test_a_retry_without_the_registry_of_the_worker_is_made_and_leaves_no_note_that_nobody_could_read(
    saga: Saga, tmp_path: Path
) -> None:
    known(tmp_path, registered=True, w1=parked())

    said = saga("retry", "w1")

    assert said.code == 0
    assert "only this database will know of it: the worker of stock takes the ids of schemas from a registry" in said.err
    assert records(tmp_path, "w1", "saga.OperatorActed") == []
    assert found(tmp_path, "w1").fences["reserve"].due is not None


def test_what_operators_did_is_shown(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, w1=parked())
    saga("retry", "w1", "--by", "alice", "--reason", "shelf is back")
    saga("skip", STOCK, "w1", "reserve", "--by", "bob", "--reason", "it is not")

    lines = saga("show", "w1").out.splitlines()
    data = saga("show", "w1", "--json").json["workflows"][0]["interventions"]

    first = lines.index("what operators did") + 2
    told = [line.split("Z  ")[-1].split() for line in lines[first : first + 2]]
    assert told == [["alice", "retry", "reserve", "shelf", "is", "back"], ["bob", "skip", "reserve", "it", "is", "not"]]
    assert [(one["by"], one["verb"], one["step"], one["reason"]) for one in data] == [
        ("alice", "retry", "reserve", "shelf is back"), ("bob", "skip", "reserve", "it is not"),
    ]  # fmt: skip


@pytest.mark.parametrize("verb", [("skip",), ("resolve", "--event", "StockReserved")], ids=["skip", "resolve"])
def test_which_step_is_asked_for_in_the_words_of_the_verb(saga: Saga, verb: tuple[str, ...]) -> None:
    name, *more = verb

    said = saga(name, STOCK, "w1", "--reason", "no room", *more)

    assert said.code == 2
    assert f"say which step, once: {name} MODULE:PARTICIPANT ID STEP, or --step NAME" in said.err
