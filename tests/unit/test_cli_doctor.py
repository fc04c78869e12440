from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from saga import assembly
from saga.contracts.schema import Schema
from saga.contracts.topics import saga_topics
from saga.errors import BrokerError, RegistryUnavailable, StoreError
from saga.store.sqlite import SqliteStore
from saga.transport.embedded import PARTITIONS, EmbeddedBroker
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.memory import MemoryBroker
from tests.commands import Commands, Said
from tests.laid import sqlite_store

CHECKOUT = Path(__file__).parents[2] / "schemas" / "checkout"
STOCK = "services.stock.app:stock"
TOPICS = saga_topics("checkout")


@pytest.fixture
def saga(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> MemoryBroker:
    """A broker with the topics of the checkout, 4 partitions each, found by every command."""
    broker = MemoryBroker(TOPICS, partitions=4)
    monkeypatch.setattr(assembly, "broker", lambda settings, timeout=0.0: broker)
    return broker


def recorded(folder: Path, partitions: int) -> str:
    """A database that has recorded this partition count."""
    store = sqlite_store(folder / "stock.db")
    store.release(store.claim("checkout", 0, partitions))
    store.close()
    return "sqlite:///stock.db"


def found(said: Said, subject: str) -> dict[str, Any]:
    """The only finding about `subject`."""
    (finding,) = (f for f in said.json["findings"] if f["subject"] == subject)
    assert isinstance(finding, dict)
    return finding


def test_a_healthy_participant_has_nothing_but_good_findings(saga: Commands, cluster: MemoryBroker, tmp_path: Path) -> None:
    database = recorded(tmp_path, 4)

    said = saga("doctor", STOCK, "--json", SAGA_DATABASE=database, SAGA_BROKER="kafka:9092")

    assert said.code == 0
    assert said.json["healthy"] is True
    assert {f["level"] for f in said.json["findings"]} == {"ok"}
    assert found(said, "topics")["text"].endswith("checkout.acks: 4 partitions, as the database recorded")
    assert found(said, "registry")["text"] == "not configured: contracts come from the folder"


@pytest.mark.parametrize(
    ("keep", "kept", "level", "text"),
    [
        ("30d", 7, "ok", "workflows that ended more than 30 d ago are deleted"),
        ("7d", 7, "fail", "found 7d, while topic checkout.events keeps records for up to 7d"),
        ("1h", 7, "fail", "found 1h, while the deadline of saga checkout v1 is 10m; expected at least P1DT10M"),
    ],
)
def test_a_span_after_which_no_worker_would_delete_workflows_is_found_before_one_is_started(
    saga: Commands, cluster: MemoryBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    keep: str, kept: int, level: str, text: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(cluster, "kept", lambda topics: dict.fromkeys(topics, timedelta(days=kept)))
    settings = {"SAGA_DATABASE": recorded(tmp_path, 4), "SAGA_BROKER": "kafka:9092", "SAGA_KEEP_WORKFLOWS": keep}

    said = saga("doctor", STOCK, "--json", **settings)

    assert (found(said, "pruning")["level"], said.code) == (level, 0 if level == "ok" else 1)
    assert text in found(said, "pruning")["text"]


def test_a_database_of_another_participant_is_found(saga: Commands, cluster: MemoryBroker, tmp_path: Path) -> None:
    store = sqlite_store(tmp_path / "stock.db")
    store.release(store.claim("checkout", 0, 4, "orders"))
    store.close()

    said = saga("doctor", STOCK, "--json", SAGA_DATABASE="sqlite:///stock.db", SAGA_BROKER="kafka:9092")

    assert said.code == 1
    assert "found the database of participant 'orders'; expected that of 'stock'" in found(said, "record")["text"]
    assert found(said, "record")["fix"] == "name this participant's own database"


def test_a_database_whose_record_cannot_be_read_is_not_taken_for_that_of_another(
    saga: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise StoreError("stock.db: database is locked")

    database = recorded(tmp_path, 4)
    monkeypatch.setattr(SqliteStore, "unit", busy)

    said = saga("doctor", STOCK, "--json", SAGA_DATABASE=database)

    assert found(said, "record")["text"] == "stock.db: database is locked"
    assert found(said, "record")["fix"] == "stop whoever keeps a transaction open"


class Registered:
    """A registry that has all schemas but those of the subjects that are `missing`, or does not answer."""

    def __init__(self, *missing: str, away: bool = False) -> None:
        self.missing, self.away = missing, away

    def registered(self, subject: str, schema: Schema) -> bool:
        if self.away:
            raise RegistryUnavailable("the registry does not answer")
        return subject not in self.missing

    def known(self, subject: str) -> bool:
        return self.registered(subject, {})


REGISTRY = "http://registry/apis/ccompat/v7"
PLACED = "checkout.events-checkout.OrderPlaced"


def test_a_registry_that_has_every_schema_is_well(saga: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "registry", lambda settings: Registered())

    said = saga("doctor", STOCK, "--json", SAGA_REGISTRY=REGISTRY)

    assert found(said, "registry")["text"] == f"{REGISTRY} answers"
    assert found(said, "schemas")["level"] == "ok"


def test_what_is_not_registered_is_named_with_the_command(saga: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "registry", lambda settings: Registered(PLACED))

    said = saga("doctor", STOCK, "--json", SAGA_REGISTRY=REGISTRY)

    assert said.code == 1
    assert found(said, "schemas")["text"] == f"not registered: {PLACED}"
    fix = "see what registering them would do: saga schemas plan DIR; then run: saga schemas register DIR"
    assert found(said, "schemas")["fix"] == fix


@pytest.mark.parametrize("target", [(), (STOCK,)], ids=["no saga", "a participant"])
def test_a_registry_that_does_not_answer_fails(
    target: tuple[str, ...], saga: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "registry", lambda settings: Registered(away=True))

    said = saga("doctor", *target, "--json", SAGA_REGISTRY=REGISTRY)

    assert said.code == 1
    assert found(said, "registry")["level"] == "fail"
    assert f"a schema registry runs at {REGISTRY}" in found(said, "registry")["fix"]
    assert "schemas" not in {f["subject"] for f in said.json["findings"]}


def test_a_password_in_the_address_of_the_registry_is_refused_and_not_shown(saga: Commands) -> None:
    said = saga("doctor", "--json", SAGA_REGISTRY="http://ada:s3cret@host/")

    assert (said.code, found(said, "registry")["level"]) == (1, "fail")
    assert "set SAGA_REGISTRY_USER=user:password instead" in found(said, "registry")["text"]
    assert "s3cret" not in said.out + said.err


def test_what_is_not_configured_is_a_warning_with_the_setting(saga: Commands) -> None:
    said = saga("doctor")

    assert said.code == 0
    assert "warn broker: set SAGA_BROKER=host:port" in said.out
    assert "warn database: set SAGA_DATABASE" in said.out
    assert "warn contracts: name MODULE:PARTICIPANT, or --schemas DIR" in said.out


def test_wrong_settings_end_the_visit(saga: Commands) -> None:
    said = saga("doctor", "--json", SAGA_THREADS="0")

    assert said.code == 1
    assert [f["subject"] for f in said.json["findings"]] == ["python", "settings"]
    assert "SAGA_THREADS: found '0'" in found(said, "settings")["text"]


def test_a_token_for_a_registry_that_is_not_named_is_found_before_a_worker_computes_ids(saga: Commands) -> None:
    said = saga("doctor", "--json", SAGA_REGISTRY_TOKEN="t0ken")

    assert (said.code, found(said, "registry")["level"]) == (1, "fail")
    assert "found SAGA_REGISTRY_TOKEN without SAGA_REGISTRY" in found(said, "registry")["text"]
    assert "t0ken" not in said.out


def test_gates_that_the_saga_does_not_have_are_pointed_out(saga: Commands) -> None:
    said = saga("doctor", STOCK, "--json", SAGA_GATES="fraud-chek")

    assert said.code == 0
    assert found(said, "gates")["level"] == "warn"
    assert "no saga here has the gate 'fraud-chek', which opens nothing; known are none" in found(said, "gates")["text"]


def test_armed_failpoints_are_pointed_out(saga: Commands) -> None:
    said = saga("doctor", "--json", SAGA_FAILPOINTS="unit.committed:kill")

    assert found(said, "failpoints") == {
        "subject": "failpoints", "level": "warn", "text": "armed: unit.committed:kill",
        "fix": "unset SAGA_FAILPOINTS outside of tests",
    }  # fmt: skip


def test_missing_topics_come_with_the_count_that_the_database_wants(
    saga: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(assembly, "broker", lambda settings, timeout=0.0: MemoryBroker())
    database = recorded(tmp_path, 6)

    said = saga("doctor", "--schemas", CHECKOUT, "--json", SAGA_DATABASE=database, SAGA_BROKER="kafka:9092")

    assert said.code == 1
    assert found(said, "topics")["fix"] == "run: saga topics apply DIR --partitions 6"


def test_a_count_that_the_database_did_not_record_fails(saga: Commands, cluster: MemoryBroker, tmp_path: Path) -> None:
    database = recorded(tmp_path, 6)

    said = saga("doctor", "--schemas", CHECKOUT, "--json", SAGA_DATABASE=database, SAGA_BROKER="kafka:9092")

    assert said.code == 1
    assert "but the database recorded 6 partitions" in found(said, "topics")["text"]


def test_topics_that_disagree_fail(saga: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    uneven = MemoryBroker(TOPICS[:1], partitions=4)
    uneven.create(TOPICS[1:], 5, {})
    monkeypatch.setattr(assembly, "broker", lambda settings, timeout=0.0: uneven)

    said = saga("doctor", "--schemas", CHECKOUT, "--json", SAGA_BROKER="kafka:9092")

    assert said.code == 1
    assert "re-create them with one count" in found(said, "topics")["fix"]


def test_a_broker_that_does_not_answer_fails_and_is_named(saga: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(MemoryBroker):
        def partitions(self, topics: object) -> dict[str, int | None]:
            raise BrokerError("no answer", retriable=True)

    monkeypatch.setattr(assembly, "broker", lambda settings, timeout=0.0: Silent())

    said = saga("doctor", "--json", SAGA_BROKER="kafka:9092")

    assert said.code == 1
    assert found(said, "broker")["fix"] == "see that Kafka runs at kafka:9092, or correct SAGA_BROKER"


@pytest.mark.parametrize(
    ("subject", "settings", "told"),
    [
        ("webhook", {"SAGA_WEBHOOK": "pager.s3cret"}, "the webhook is no address; expected https://host/path"),
        ("health", {"SAGA_HEALTH": "8080"}, "found '8080' to answer health on; expected host:port, such as 0.0.0.0:8080"),
        ("health", {"SAGA_HEALTH": "0.0.0.0:80800"}, "expected host:port, such as 0.0.0.0:8080"),
        ("client", {"SAGA_KAFKA__linger.ms": "soon", "SAGA_BROKER": "127.0.0.1:1"}, "Invalid value for configuration property"),
    ],
)
def test_what_no_worker_would_begin_with_is_found_before_one_is_started(
    saga: Commands, monkeypatch: pytest.MonkeyPatch, subject: str, settings: dict[str, str], told: str
) -> None:
    monkeypatch.setattr(KafkaBroker, "partitions", lambda self, topics: dict.fromkeys(topics, 1))

    said = saga("doctor", "--json", **settings)

    assert (said.code, found(said, subject)["level"]) == (1, "fail")
    assert told in found(said, subject)["text"]
    assert "s3cret" not in said.out


def test_a_webhook_and_client_settings_that_a_worker_can_begin_with_are_well(
    saga: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KafkaBroker, "partitions", lambda self, topics: dict.fromkeys(topics, 1))

    said = saga(
        "doctor", "--json",
        SAGA_WEBHOOK="https://pager/s3cret", SAGA_KAFKA='{"linger.ms": 5}', SAGA_BROKER="127.0.0.1:1", SAGA_HEALTH="[::]:8080",
    )  # fmt: skip

    assert {found(said, subject)["level"] for subject in ("webhook", "health", "client")} == {"ok"}
    assert "s3cret" not in said.out


def test_an_empty_database_is_sent_to_the_upgrade(saga: Commands, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()

    said = saga("doctor", "--json", SAGA_DATABASE="sqlite:///empty.db")

    assert said.code == 1
    assert found(said, "tables")["fix"] == "run: saga db upgrade"


@pytest.mark.parametrize("url", ["sqlite:///none.db", "mysql://u:pa55@db/orders"])
def test_a_database_that_is_not_there_fails(saga: Commands, url: str) -> None:
    said = saga("doctor", "--json", SAGA_DATABASE=url)

    assert said.code == 1
    assert found(said, "database")["level"] == "fail"
    assert "pa55" not in said.out


def test_a_participant_that_is_not_there_fails(saga: Commands) -> None:
    said = saga("doctor", "services.stock.app:stok", "--json")

    assert said.code == 1
    assert "it has no 'stok'" in found(said, "participant")["text"]


def test_a_participant_without_a_handler_fails_but_its_contracts_are_looked_at(saga: Commands, tmp_path: Path) -> None:
    module = f"from saga import Participant, Saga\nbare = Participant('stock', Saga.load({str(CHECKOUT)!r}))\n"
    (tmp_path / "bare_stock.py").write_text(module)

    said = saga("doctor", "bare_stock:bare", "--json")

    assert said.code == 1
    assert "reserve" in found(said, "participant")["text"]
    assert found(said, "contracts")["text"].startswith("saga checkout v1: 5 steps")


def test_contracts_that_do_not_load_fail(saga: Commands) -> None:
    said = saga("doctor", "--schemas", "nowhere", "--json")

    assert said.code == 1
    assert found(said, "contracts")["level"] == "fail"


def test_asking_an_embedded_broker_leaves_no_topic_behind(saga: Commands) -> None:
    with EmbeddedBroker(TOPICS) as embedded:
        address = {"SAGA_BROKER": embedded.servers, "SAGA_EMBEDDED": "true"}
        without = saga("doctor", "--json", **address)
        named = saga("doctor", "--schemas", CHECKOUT, "--json", **address)
        topics = all_topics(embedded.settings())

    assert found(without, "broker")["level"] == "ok"
    assert f"checkout.events: {PARTITIONS}" in found(named, "topics")["text"]
    assert topics == set(TOPICS)


def all_topics(settings: KafkaSettings) -> set[str]:
    """Every topic of the cluster but its internal ones."""
    found = AdminClient({**settings.admin()}).list_topics(timeout=5).topics
    return {name for name in found if not name.startswith("__")}


def test_a_second_name_of_a_sqlite_file_is_told_and_can_be_removed(
    saga: Commands, cluster: MemoryBroker, tmp_path: Path
) -> None:
    database = recorded(tmp_path, 4)
    (second := tmp_path / "stock.db.before_20300101000000").hardlink_to(tmp_path / "stock.db")

    said = saga("doctor", STOCK, "--json", SAGA_DATABASE=database, SAGA_BROKER="kafka:9092")
    second.unlink()
    again = saga("doctor", STOCK, "--json", SAGA_DATABASE=database, SAGA_BROKER="kafka:9092")

    assert found(said, "names")["level"] == "warn"
    assert "stock.db.before_20300101000000" in found(said, "names")["text"]
    assert {f["level"] for f in again.json["findings"]} == {"ok"}
