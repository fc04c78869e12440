"""The main job on Kafka, PostgreSQL and a schema registry: clean, and gone without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from demo.books import ROOT
from demo.topics import Topics
from saga.contracts.topics import saga_topics
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from tests.brokers import outbound, publish
from tests.services.test_demo import FAILURES, RETAIL, SOON, alive, children, count, home, read_until, running
from tests.waiting import until

pytestmark = pytest.mark.slow

TOPICS = saga_topics("checkout")
OWN_SERVERS = 3
DATABASES = "SELECT datname FROM pg_database"


@pytest.fixture
def own(kafka: str, postgres: str, registry: str) -> list[str]:
    """The options that point the demo at the servers of all tests."""
    return ["--real", "--kafka", kafka, "--postgres", postgres, "--registry", registry]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo", "--json", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=220, check=False)


def topics(kafka: str) -> set[str]:
    return AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=60).topics.keys() & set(TOPICS)


def delete_topics(kafka: str) -> None:
    Topics(kafka, TOPICS).delete(TOPICS, patience=60)
    until(lambda: topics(kafka) == set(), what="the topics to be gone")


def databases(postgres: str) -> set[str]:
    with psycopg.connect(postgres) as connection:
        return {name for (name,) in connection.execute(DATABASES)}


def test_the_sample_is_clean_and_leaves_no_topic_and_no_database(own: list[str], kafka: str, postgres: str) -> None:
    before = databases(postgres)

    done = run(*own)

    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["clean"]
    assert sum(outcome["workflows"] for outcome in report["outcomes"].values()) == 500
    assert {failure: count(report, failure) >= 10 for failure in FAILURES} == dict.fromkeys(FAILURES, True)
    until(lambda: topics(kafka) == set(), what="the topics that it deleted to be gone")
    assert databases(postgres) == before
    assert not home(done.stderr).exists()


def test_the_whole_retail_file_is_clean(own: list[str], kafka: str) -> None:
    if not RETAIL.exists():
        assert "CI" not in os.environ, f"{RETAIL} is missing: in CI this test may not be skipped"
        pytest.skip(f"{RETAIL} is not here: get December 2010 of the UCI Online Retail data set")

    done = run(*own, "--orders", str(RETAIL))

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert sum(outcome["workflows"] for outcome in report["outcomes"].values()) == 1456
    assert report["clean"]
    until(lambda: topics(kafka) == set(), what="the topics that it deleted to be gone")


def test_topics_with_somebodys_records_are_refused_and_left_alone(own: list[str], kafka: str, postgres: str) -> None:
    broker, before = KafkaBroker(KafkaSettings(kafka)), databases(postgres)
    broker.create(TOPICS[:1], 4, {})
    writer = broker.producer()
    try:
        publish(writer, outbound(TOPICS[0], 1, "theirs"), outbound(TOPICS[0], 3, "theirs too"))

        done = run(*own)

        assert done.returncode == 1
        assert "has checkout.events (2 records): somebody's workflows" in done.stderr
        assert topics(kafka) == {TOPICS[0]}
        assert databases(postgres) == before
    finally:
        writer.purge()
        delete_topics(kafka)


def test_topics_of_another_partition_count_are_refused_with_what_the_command_says(own: list[str], kafka: str) -> None:
    KafkaBroker(KafkaSettings(kafka)).create(TOPICS[:1], 3, {})
    try:
        done = run(*own)

        assert done.returncode == 1
        assert "saga topics apply schemas/checkout --partitions 4 ended with status 1" in done.stderr
        assert "it has 3 partitions" in done.stderr
        assert topics(kafka) == {TOPICS[0]}
    finally:
        delete_topics(kafka)


def test_a_server_that_is_not_where_the_option_says_is_named_without_its_password(kafka: str) -> None:
    done = run("--real", "--kafka", kafka, "--postgres", "postgresql://u:pa55@127.0.0.1:9/postgres")

    assert done.returncode == 1
    assert "no postgres answers at 127.0.0.1:9/postgres; start it, or correct --postgres or SAGA_DATABASE" in done.stderr
    assert "pa55" not in done.stderr


def test_ctrl_c_ends_fleet_and_servers_soon() -> None:
    with running("--real") as demo:
        read_until(demo, r"^sent ")
        processes = children(demo.pid)

        demo.send_signal(signal.SIGINT)

        assert demo.wait(SOON) == 130
        assert len(processes) == 5 + OWN_SERVERS
        assert alive(processes) == []
