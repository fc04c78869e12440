"""What the table of workflows' states must do in every database: take any step's name, and any text."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from saga import Saga
from saga.errors import DefinitionError, StoreError
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.replay import tables
from saga.replay.state import State
from servers import fresh_database
from tests.commands import schemas

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'analysis.db'}"
    else:
        with fresh_database(request.getfixturevalue("postgres")) as made:
            yield made


def shop(*names: str, saga: str = "checkout") -> Saga:
    """A saga of steps of these names, one after the other."""
    steps: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        after = {"on": [f"E{number - 1}"]} if number else {}
        steps.append({"name": name, "by": "orders", "emits": [f"E{number}"], **after})
    *events, own = schemas(*steps)
    return Saga.of(*events, {**own, "saga": {**own["saga"], "name": saga}})


def lived(saga: Saga, text: str = "soup") -> State:
    """A workflow that has completed, every event of which holds the text."""
    return State(
        id="w1",
        version=1,
        status=WorkflowStatus.COMPLETED,
        exceptions=False,
        opened=_NOON,
        closed=_NOON,
        gates={},
        steps={step.name: StepStatus.DONE for step in saga.steps},
        events={step.name: (step.emits[0], {"order_id": text, "step": step.name}) for step in saga.steps},
    )


def connected(url: str) -> closing[Any]:
    return closing(psycopg.connect(url) if url.startswith("postgresql") else sqlite3.connect(url.removeprefix("sqlite:///")))


def execute(url: str, *statements: str) -> None:
    with connected(url) as at:
        for statement in statements:
            at.execute(statement)
        at.commit()


def read(url: str, name: str) -> dict[str, Any]:
    """The only row, by column."""
    with connected(url) as at:
        cursor = at.cursor()
        cursor.execute(f'SELECT * FROM "{name}"')
        [row] = cursor.fetchall()
        return dict(zip([column[0] for column in cursor.description or ()], row, strict=True))


@pytest.mark.parametrize(
    "names",
    [("id", "status", "closed"), ("pay", "pay_status", "pay_event"), ("Pay", "pay"), ("p" * 70, "p" * 71)],
    ids=["of the table's own columns", "of another step's columns", "apart by case alone", "apart at the end alone"],
)
def test_every_step_has_columns_of_its_own_whatever_it_is_called(url: str, names: tuple[str, ...]) -> None:
    saga = shop(*names)

    found = read(url, tables.write(url, saga, [lived(saga)]))

    assert (found["id"], found["status"]) == ("w1", "completed")
    assert len({column.casefold() for column in found}) == len(found) == 7 + 3 * len(names)
    assert sum("'order_id'" in str(value) or '"order_id"' in str(value) for value in found.values()) == len(names)


def test_an_event_with_a_text_that_not_every_database_takes_is_written_all_the_same(url: str) -> None:
    saga = shop("place", "ship")

    found = read(url, tables.write(url, saga, [lived(saga, text="a\0b \\u0000")]))

    assert "a" in str(found["place"])


@pytest.mark.parametrize("replace", [False, True])
def test_a_table_of_another_saga_that_has_the_same_name_is_left_alone(url: str, replace: bool) -> None:
    dashed, plain = shop("pay", saga="a-b"), shop("pay", saga="a_b")
    tables.write(url, dashed, [lived(dashed)])
    tables.write(url, dashed, [lived(dashed)], replace=True)

    with pytest.raises(DefinitionError, match=r"the table 'a_b_v1' holds saga 'a-b', not 'a_b'; name another database"):
        tables.write(url, plain, [lived(plain)], replace=replace)
    assert read(url, "a_b_v1")["id"] == "w1"


@pytest.mark.parametrize("replace", [False, True])
def test_a_table_that_no_export_made_is_left_alone(url: str, replace: bool) -> None:
    saga = shop("pay", saga="orders")
    execute(url, "CREATE TABLE orders_v1 (id text PRIMARY KEY)", "INSERT INTO orders_v1 VALUES ('of the service')")

    with pytest.raises(DefinitionError, match=r"there is a table 'orders_v1' that no export made; name another database"):
        tables.write(url, saga, [lived(saga)], replace=replace)
    assert read(url, "orders_v1") == {"id": "of the service"}


def test_an_earlier_table_is_read_and_others_write_while_the_next_one_is_made(url: str) -> None:
    saga = shop("pay")
    tables.write(url, saga, [lived(saga, text="earlier")])
    execute(url, "CREATE TABLE orders (id text PRIMARY KEY)")

    def states() -> Iterator[State]:
        yield lived(saga, text="later")
        with connected(url) as at:
            at.execute("SET lock_timeout = '200ms'" if url.startswith("postgresql") else "PRAGMA busy_timeout = 200")
            [(paid,)] = at.execute("SELECT pay FROM checkout_v1").fetchall()
            assert "earlier" in str(paid)
            at.execute("INSERT INTO orders VALUES ('meanwhile')")
            at.commit()

    tables.write(url, saga, states(), replace=True)

    assert "later" in str(read(url, "checkout_v1")["pay"])
    assert read(url, "orders") == {"id": "meanwhile"}


def test_a_table_that_is_not_made_whole_leaves_the_earlier_one(url: str) -> None:
    saga = shop("pay")
    tables.write(url, saga, [lived(saga, text="earlier")])

    def states() -> Iterator[State]:
        yield lived(saga, text="later")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tables.write(url, saga, states(), replace=True)

    assert "earlier" in str(read(url, "checkout_v1")["pay"])


@pytest.mark.slow
def test_a_table_that_cannot_be_dropped_is_told_before_anything_is_read(postgres: str) -> None:
    saga, asked = shop("pay"), list[str]()

    def states() -> Iterator[State]:
        asked.append("the topics")
        yield lived(saga)

    with fresh_database(postgres) as url:
        tables.write(url, saga, [lived(saga)])
        execute(url, "CREATE VIEW ours AS SELECT * FROM checkout_v1")
        with pytest.raises(StoreError, match="the table was not written: cannot drop table checkout_v1"):
            tables.write(url, saga, states(), replace=True)

    assert asked == []
