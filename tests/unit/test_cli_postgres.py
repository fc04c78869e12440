"""What commands say of a postgresql:// URL, as far as no server is needed for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from saga.store.postgres_tables import Address
from tests.commands import Commands

NOWHERE = "postgresql://u:pa55@127.0.0.1:9/orders"


@pytest.fixture
def saga(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


@pytest.mark.parametrize("command", [("db", "upgrade"), ("db", "sql"), ("show", "w1")], ids=" ".join)
@pytest.mark.parametrize("url", [NOWHERE, "postgres://127.0.0.1:9/orders?user=u&password=pa55"])
def test_a_server_that_does_not_answer_is_named_without_its_password(
    command: tuple[str, ...], url: str, saga: Commands
) -> None:
    said = saga(*command, SAGA_DATABASE=url)

    assert said.code == 1
    assert "error: 127.0.0.1:9/orders cannot be reached" in said.err
    assert "or correct SAGA_DATABASE" in said.err
    assert "pa55" not in said.err


def test_an_address_that_libpq_cannot_read_is_wrong_use_and_not_repeated(saga: Commands) -> None:
    said = saga("db", "upgrade", SAGA_DATABASE="postgresql://u:pa55@127.0.0.1:9/orders?colour=red")

    assert said.code == 2
    assert "expected postgresql://user:password@host:5432/database" in said.err
    assert "pa55" not in said.err


@pytest.mark.parametrize(
    ("tail", "told"),
    [
        ("orders?sslmod=require", "PostgreSQL: it has no parameter 'sslmod'; expected"),
        ("orders?pa55=1&password=x", "PostgreSQL; expected"),  # it may as well be the rest of one
        ("orders?sslmode=bogus", 'cannot be opened: connection is bad: invalid sslmode value: "bogus". Correct SAGA_DATABASE'),
        ("orders?connect_timeout=soon", "cannot be opened: bad value for connect_timeout: 'soon'. Correct SAGA_DATABASE"),
        ("orders?service=none", 'cannot be opened: connection is bad: definition of service "none" not found'),
    ],
)
def test_a_parameter_that_can_never_be_right_is_waited_for_by_nobody(tail: str, told: str, saga: Commands) -> None:
    fleet = "from tests.travel import Script, fleet\nagency, hotels, airline, bank = fleet(Script())\n"
    (saga.folder / "some.py").write_text(fleet)

    said = saga("run", "some:hotels", SAGA_DATABASE=f"postgresql://u:pa55@127.0.0.1:9/{tail}", SAGA_BROKER="kafka:9092")

    assert said.code == 2
    assert told in said.err
    assert "pa55" not in said.err
    assert "Traceback" not in said.err


def test_a_projection_waits_for_no_database_that_can_never_be_opened(saga: Commands) -> None:
    fold = "from tests.unit.test_projection import trips\nprojection = trips()\n"
    (saga.folder / "fold.py").write_text(fold)

    said = saga("project", "fold:projection", SAGA_DATABASE=f"{NOWHERE}?sslmode=bogus", SAGA_BROKER="kafka:9092")

    assert said.code == 1
    assert 'cannot be opened: connection is bad: invalid sslmode value: "bogus"' in said.err


@pytest.mark.parametrize("address", ["h:none", "h:0", "h:65536", "h:5432,i:none", "u:pa55/word@h"])
def test_a_port_that_is_none_is_wrong_use_and_not_a_server_that_is_away(address: str, saga: Commands) -> None:
    said = saga("show", "w1", SAGA_DATABASE=f"postgresql://{address}/orders")

    assert said.code == 2
    assert "has a port that is no number from 1 to 65535" in said.err
    assert "pa55" not in said.err


@pytest.mark.parametrize("address", ["h/orders", "h:/orders", "h:5432/orders", "h:5432,i:5433/orders", "/orders?host=/tmp"])
def test_a_port_may_be_left_out_or_be_one_for_each_host(address: str) -> None:
    assert Address(f"postgresql://u@{address}").parameters["dbname"] == "orders"


def test_without_the_driver_the_extra_is_named(saga: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("saga.store.postgres", "saga.store.postgres_tables"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)

    for command in (("db", "upgrade"), ("show", "w1")):
        said = saga(*command, SAGA_DATABASE=NOWHERE)

        assert said.code == 2
        assert "run: pip install 'saga-choreography[postgres]'" in said.err
        assert "pa55" not in said.err


def test_the_doctor_tells_it_too(saga: Commands) -> None:
    said = saga("doctor", "--json", SAGA_DATABASE=NOWHERE)

    (finding,) = (f for f in said.json["findings"] if f["subject"] == "database")
    assert said.code == 1
    assert finding["level"] == "fail"
    assert "127.0.0.1:9/orders cannot be reached" in finding["text"]
    assert "createdb" in finding["fix"]
    assert "pa55" not in said.out
