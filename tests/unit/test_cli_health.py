from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from saga import Worker, assembly
from saga.contracts.topics import saga_topics
from saga.engine.health import Part, State
from saga.errors import BrokerError, StoreError
from saga.observe.health import served
from saga.store.memory import MemoryStore
from saga.store.sqlite import SqliteStore
from saga.transport.memory import MemoryBroker
from tests.commands import Commands
from tests.travel import Script, fleet
from tests.waiting import until

STOCK = "services.stock.app:stock"


@pytest.fixture
def saga(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


@pytest.fixture
def worker() -> Iterator[Worker]:
    broker = MemoryBroker(saga_topics("travel"), partitions=2)
    with Worker(fleet(Script())[0], store=MemoryStore(), broker=broker).running() as worker:
        until(lambda: len(worker.standing().lanes) == 2 and worker.health().ready, what="a ready worker")
        yield worker


def test_a_process_that_is_ready_is_told_and_exits_with_0(saga: Commands, worker: Worker) -> None:
    with served(worker, "127.0.0.1:0") as url:
        said = saga("health", url)
        by_setting = saga("health", "--json", SAGA_HEALTH=url.removeprefix("http://"))

    assert said.code == by_setting.code == 0
    assert said.out.splitlines()[0] == "agency of saga travel: ready"
    assert "lane 1" in said.out
    assert by_setting.json["state"] == "ready"


def test_a_process_that_is_degraded_exits_with_1_and_its_reasons(saga: Commands, worker: Worker) -> None:
    worker.parts.append(lambda: [Part("bank", State.DEGRADED, "nobody answers")])

    with served(worker, "127.0.0.1:0") as url:
        said = saga("health", f"{url}/readyz")

    assert said.code == 1
    assert "nobody answers" in said.err


def test_a_process_that_does_not_answer_exits_with_2(saga: Commands) -> None:
    said = saga("health", "http://127.0.0.1:9", "--json")

    assert said.code == 2
    assert said.json["reasons"][0].startswith("process: no answer from http://127.0.0.1:9/health: ")


def test_from_outside_the_database_and_the_broker_are_asked(
    saga: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqliteStore(tmp_path / "stock.db", migrate=True).close()
    broker = MemoryBroker(saga_topics("checkout"), partitions=2)
    monkeypatch.setattr(assembly, "broker", lambda settings, timeout=0.0: broker)
    ready = saga("health", STOCK, "--database", "sqlite:///stock.db", "--json")

    def away(topics: list[str]) -> dict[str, int | None]:
        raise BrokerError("nobody answers", retriable=True)

    monkeypatch.setattr(broker, "partitions", away)
    degraded = saga("health", STOCK, "--database", "sqlite:///stock.db", "--json")

    assert (ready.code, ready.json["state"]) == (0, "ready")
    assert {part["name"] for part in ready.json["parts"]} == {"broker", "store", "outbox", "parked"}
    assert (degraded.code, degraded.json["state"]) == (1, "degraded")


def test_from_outside_the_database_of_another_participant_is_refused(saga: Commands, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "orders.db", migrate=True)
    store.release(store.claim("checkout", 0, 2, "orders"))
    store.close()

    said = saga("health", STOCK, "--database", "sqlite:///orders.db", "--broker", "127.0.0.1:9", "--json")

    assert (said.code, said.json["error"]["type"]) == (2, "DefinitionError")
    assert "found the database of participant 'orders'; expected that of 'stock'" in said.err


def test_from_outside_a_database_that_says_nothing_is_degraded(
    saga: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise StoreError("stock.db: database is locked")

    SqliteStore(tmp_path / "stock.db", migrate=True).close()
    monkeypatch.setattr(SqliteStore, "unit", busy)
    monkeypatch.setattr(assembly, "broker", lambda settings, timeout=0.0: MemoryBroker(saga_topics("checkout"), partitions=2))

    said = saga("health", STOCK, "--database", "sqlite:///stock.db", "--json")

    assert (said.code, said.json["state"]) == (1, "degraded")
    assert said.json["reasons"] == ["store: away: stock.db: database is locked"]


def test_an_address_without_its_scheme_is_not_taken_for_a_module(saga: Commands) -> None:
    said = saga("health", "127.0.0.1:8080")

    assert said.code == 2
    assert "expected the address of a process, http://127.0.0.1:8080, or MODULE:PARTICIPANT" in said.err


def test_nobody_to_ask_is_wrong_use(saga: Commands) -> None:
    said = saga("health")

    assert said.code == 2
    assert "nobody was named" in said.err


@pytest.mark.parametrize("address", ["http://[::1", "http://", "http:///health", "http://:8080", "http://host:none"])
def test_an_address_that_is_none_is_wrong_use_and_nobody_is_taken_for_dead(saga: Commands, address: str) -> None:
    said = saga("health", address, "--json")

    assert (said.code, said.json["error"]["type"]) == (2, "DefinitionError")
    assert said.err == f"error: found {address!r}; expected a host and its port behind it, as in http://127.0.0.1:8080\n"
