from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from saga import assembly
from saga.settings import Settings
from saga.transport.memory import MemoryBroker
from saga.transport.port import Broker
from tests.commands import Commands

CHECKOUT = Path(__file__).parents[2] / "schemas" / "checkout"
TOPICS = ["checkout.events", "checkout.compensations", "checkout.acks"]


@pytest.fixture
def saga(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


def given(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> None:
    """Let every command find this broker."""
    monkeypatch.setattr(assembly, "broker", lambda settings, timeout=0.0: broker)


def test_plan_says_what_apply_then_does(saga: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = MemoryBroker()
    given(monkeypatch, cluster)

    planned = saga("topics", "plan", CHECKOUT, "--partitions", "6", "--json")
    untouched = cluster.partitions(TOPICS)
    applied = saga("topics", "apply", CHECKOUT, "--partitions", "6", "--json")

    assert [(t["topic"], t["action"]) for t in planned.json["topics"]] == [(topic, "create") for topic in TOPICS]
    assert untouched == dict.fromkeys(TOPICS)
    assert [t["action"] for t in applied.json["topics"]] == ["created", "created", "created"]
    assert cluster.partitions(TOPICS) == dict.fromkeys(TOPICS, 6)


def test_a_second_apply_finds_nothing_to_do(saga: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, MemoryBroker(TOPICS, partitions=6))

    said = saga("topics", "apply", CHECKOUT, "--partitions", "6")

    assert said.code == 0
    assert said.out.splitlines()[1].split()[:2] == ["checkout.events", "ok"]


def test_the_retention_is_a_duration(saga: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, MemoryBroker())

    said = saga("topics", "plan", CHECKOUT, "--partitions", "6", "--retention", "P30D", "--json")

    assert said.json["topics"][0]["config"]["retention.ms"] == str(30 * 86_400_000)


@pytest.mark.parametrize("retention", ["7", "seven days", "P"])
def test_a_retention_that_is_no_duration_is_wrong_use(saga: Commands, retention: str) -> None:
    said = saga("topics", "plan", CHECKOUT, "--partitions", "6", "--retention", retention)

    assert said.code == 2
    assert "expected a span such as 90s, 10m, 2h, 7d or PT2H" in said.err


def test_of_two_who_apply_at_once_with_different_counts_the_second_is_refused(
    saga: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, create = MemoryBroker(), MemoryBroker.create

    def late(broker: MemoryBroker, topics: Sequence[str], partitions: int, config: Mapping[str, str]) -> None:
        create(broker, TOPICS[:1], 4, config)  # by somebody else
        create(broker, [topic for topic in topics if topic not in TOPICS[:1]], partitions, config)

    monkeypatch.setattr(MemoryBroker, "create", late)
    given(monkeypatch, cluster)

    said = saga("topics", "apply", CHECKOUT, "--partitions", "6", "--json")

    assert said.code == 1
    assert [topic["action"] for topic in said.json["topics"]] == ["refuse", "created", "created"]
    assert said.json["topics"][0]["reason"].startswith("it has 4 partitions, 6 are wanted")


def test_apply_refuses_another_count_and_creates_nothing(saga: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = MemoryBroker(TOPICS[:1], partitions=4)
    given(monkeypatch, cluster)

    said = saga("topics", "apply", CHECKOUT, "--partitions", "6")

    assert said.code == 1
    assert "it has 4 partitions, 6 are wanted" in said.out
    assert cluster.partitions(TOPICS) == {TOPICS[0]: 4, TOPICS[1]: None, TOPICS[2]: None}


def test_a_dry_run_creates_nothing(saga: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = MemoryBroker()
    given(monkeypatch, cluster)

    said = saga("topics", "apply", CHECKOUT, "--partitions", "6", "--dry-run", "--json")

    assert [t["action"] for t in said.json["topics"]] == ["create", "create", "create"]
    assert cluster.partitions(TOPICS) == dict.fromkeys(TOPICS)


def test_no_broker_and_no_folder_are_wrong_use(saga: Commands) -> None:
    brokerless = saga("topics", "plan", CHECKOUT, "--partitions", "6")
    folderless = saga("topics", "plan", "nowhere", "--partitions", "6", SAGA_BROKER="kafka:9092")

    assert (brokerless.code, folderless.code) == (2, 2)
    assert "set SAGA_BROKER=host:port" in brokerless.err
    assert "no saga at 'nowhere'" in folderless.err


def test_the_broker_is_the_one_that_the_settings_describe() -> None:
    settings = Settings.load(broker="kafka:9092", lanes="all", kafka={"linger.ms": 1, "sasl.password": "pa55"})

    cluster = assembly.broker(settings, timeout=2.0)

    kafka = getattr(cluster, "settings")  # noqa: B009 - the port does not have it
    assert (kafka.servers, kafka.lanes, kafka.timeout) == ("kafka:9092", "all", 2.0)
    assert kafka.client == {"linger.ms": "1", "sasl.password": "pa55"}
