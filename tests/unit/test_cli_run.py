from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from saga import Worker, assembly
from saga.contracts.topics import saga_topics
from saga.errors import DefinitionError, StoreError
from saga.protocol.facts import StepStatus
from saga.settings import Settings
from saga.store.sqlite import SqliteStore
from saga.testing.clock import ManualClock
from saga.transport.embedded import EmbeddedBroker
from saga.transport.kafka import KafkaBroker
from saga.transport.memory import MemoryBroker
from tests.commands import Commands
from tests.travel import CREATE_EFFECTS, Script, TripBooked, fleet
from tests.waiting import until

ROOT = Path(__file__).parents[2]
SERVICE = "from tests.travel import Script, fleet\nagency, hotels, airline, bank = fleet(Script())\nnothing = 7\n"


@pytest.fixture
def saga(tmp_path: Path) -> Commands:
    (tmp_path / "travel_service.py").write_text(SERVICE)
    return Commands(tmp_path)


def test_a_command_in_this_process_leaves_the_log_of_the_tests_alone(saga: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saga.cli.running.run._work", lambda worker: None)
    root = logging.getLogger()
    before = [*root.handlers], root.level

    saga("run", "travel_service:hotels", "--upgrade", SAGA_DATABASE="sqlite:///hotels.db", SAGA_BROKER="kafka:9092")

    assert ([*root.handlers], root.level) == before


def test_the_log_says_which_versions_the_process_knows(saga: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "versions_service.py").write_text(
        "from tests.travel import Script, fleet\nagency, hotels, airline, bank = fleet(Script(), versions=(1, 2))\n"
    )
    monkeypatch.setattr("saga.cli.running.run._work", lambda worker: None)

    said = saga("run", "versions_service:hotels", "--upgrade", SAGA_DATABASE="sqlite:///hotels.db", SAGA_BROKER="kafka:9092")

    assert "hotels of saga travel v1, v2, on sqlite:///hotels.db and broker kafka:9092" in said.err


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("travel_service", "found 'travel_service'; expected module:participant"),
        ("no_service:hotels", "there is no module 'no_service', looked for in"),
        ("travel_service.app:hotels", "there is no module 'travel_service.app'"),
        ("travel_service:motels", "but it has no 'motels'; expected a saga.Participant. It has: travel_service:agency"),
        ("travel_service:nothing", "but 'nothing' there is of type int; expected a saga.Participant"),
        ("broken_service:hotels", "module 'broken_service' fails while it is imported: ZeroDivisionError: division by zero"),
        ("needy_service:hotels", "module 'needy_service' fails while it is imported: ModuleNotFoundError: No module"),
        ("garbled_service:hotels", "module 'garbled_service' fails while it is imported: SyntaxError"),
        ("refused_service:hotels", "has no participant 'motels'; its steps are by"),
    ],
)
def test_a_target_that_is_no_participant_is_wrong_use(saga: Commands, tmp_path: Path, target: str, told: str) -> None:
    (tmp_path / "broken_service.py").write_text("hotels = 1 / 0\n")
    (tmp_path / "needy_service.py").write_text("import needed_but_missing\n")
    (tmp_path / "garbled_service.py").write_text("hotels = = 1\n")
    (tmp_path / "refused_service.py").write_text("from tests.travel import saga, Participant\nParticipant('motels', saga())\n")

    said = saga("run", target)

    assert said.code == 2
    assert told in said.err
    assert "Traceback" not in said.err


def test_a_handler_that_is_missing_is_wrong_use(saga: Commands, tmp_path: Path) -> None:
    idle = "from tests.travel import saga, Participant\nbank = Participant('bank', saga())\n"
    (tmp_path / "idle_service.py").write_text(idle)
    saga("db", "upgrade", "--database", "sqlite:///bank.db")

    said = saga("run", "idle_service:bank", "--database", "sqlite:///bank.db", "--broker", "kafka:9092")

    assert said.code == 2
    assert "pay" in said.err


@pytest.mark.parametrize(
    ("kafka", "told"),
    [
        ({"secrity.protocol": "SSL"}, 'No such configuration property: "secrity.protocol"'),
        ({"batch.size": "big"}, 'Invalid value for configuration property "batch.size"'),
        ({"max.poll.interval.ms": "soon"}, 'Invalid value for configuration property "max.poll.interval.ms"'),
        ({"security.protocol": "SSL", "ssl.ca.location": "nowhere.pem"}, "ssl.ca.location failed"),
    ],
    ids=["no property", "of a producer", "of a member", "no file"],
)
def test_kafka_settings_that_no_client_takes_are_wrong_use(
    saga: Commands, tmp_path: Path, kafka: dict[str, str], told: str
) -> None:
    saga("db", "upgrade", "--database", "sqlite:///bank.db")

    said = saga(
        *("run", "travel_service:bank", "--database", "sqlite:///bank.db", "--broker", "127.0.0.1:1"),
        SAGA_KAFKA=orjson.dumps(kafka).decode(),
    )

    assert said.code == 2
    assert f"librdkafka refuses the Kafka client settings: {told}" in said.err.replace("Failed to create consumer: ", "")


def test_a_database_without_tables_is_sent_to_the_upgrade(saga: Commands, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()

    said = saga("run", "travel_service:bank", "--database", "sqlite:///empty.db", "--broker", "kafka:9092")

    assert said.code == 2
    assert "run: saga db upgrade" in said.err


def test_what_ends_a_worker_is_one_line_and_a_failure(saga: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(assembly, "broker", lambda settings: MemoryBroker(saga_topics("travel"), partitions=4))
    store = SqliteStore(tmp_path / "bank.db", migrate=True)
    store.release(store.claim("travel", 0, 6))
    store.close()

    said = saga("run", "travel_service:bank", "--database", "sqlite:///bank.db")

    assert said.code == 1
    last = said.err.splitlines()[-1]
    assert last.startswith("error: the topics of saga 'travel' have 4 partitions, but this store recorded 6")
    assert "Traceback" not in said.err


def test_a_bug_is_logged_with_its_traceback_and_ends_in_one_line(
    saga: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Broken(MemoryBroker):
        def partitions(self, topics: object) -> dict[str, int | None]:
            raise ZeroDivisionError("no such luck with m\udcfcnchen.csv")

    monkeypatch.setattr(assembly, "broker", lambda settings: Broken())

    said = saga("run", "travel_service:bank", "--upgrade", "--log", "json", "--database", "sqlite:///bank.db")

    *lines, last = said.err.splitlines()
    assert said.code == 1
    assert last == "error: the worker failed: ZeroDivisionError: no such luck with m\\udcfcnchen.csv"
    logged = [orjson.loads(line) for line in lines]
    assert "applied migration 001_tables" in [line["message"] for line in logged]
    assert "ZeroDivisionError: no such luck with m\\udcfcnchen.csv" in logged[-1]["traceback"]


@pytest.mark.parametrize(("level", "told"), [("info", False), ("debug", True)])
def test_requests_to_the_registry_are_logged_to_whoever_wants_everything(
    saga: Commands, monkeypatch: pytest.MonkeyPatch, level: str, told: bool
) -> None:
    class Chatting(MemoryBroker):
        def partitions(self, topics: object) -> dict[str, int | None]:
            logging.getLogger("httpx2").info("HTTP Request: GET /subjects")
            raise DefinitionError("that was all")

    monkeypatch.setattr(logging.getLogger("httpx2"), "level", logging.NOTSET)
    monkeypatch.setattr(assembly, "broker", lambda settings: Chatting())

    said = saga("run", "travel_service:bank", "--upgrade", "--database", "sqlite:///bank.db", SAGA_LOG_LEVEL=level)

    assert "that was all" in said.err
    assert ("HTTP Request" in said.err) is told


def test_a_database_that_is_away_at_the_start_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    clock, tries = ManualClock(), iter([StoreError("refused"), StoreError("refused"), StoreError("starting up")])

    def ask() -> str:
        if (error := next(tries, None)) is not None:
            raise error
        return "the store"

    assert assembly.patiently(ask, clock) == "the store"
    assert clock.monotonic() == 3.0
    assert [record.message for record in caplog.records] == [
        "waiting for the database: refused",
        "waiting for the database: starting up",
    ]


def test_a_setting_that_is_wrong_is_not_waited_for() -> None:
    def ask() -> str:
        raise DefinitionError("no such scheme")

    with pytest.raises(DefinitionError):
        assembly.patiently(ask)


def test_health_is_answered_while_the_database_is_not_there_yet(
    saga: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(assembly, "broker", lambda settings: MemoryBroker(saga_topics("travel"), partitions=4))
    logged: list[str] = []
    heard: list[tuple[int, dict[str, Any]]] = []
    opened = assembly.store

    def store(settings: Settings) -> object:
        [address] = [record.split()[-1] for record in logged if "health is answered on" in record]
        for page in ("livez", "readyz", "metrics"):
            answer = httpx.get(f"{address}/{page}")
            heard.append((answer.status_code, answer.json()))
        return opened(settings)

    monkeypatch.setattr("saga.cli.running.run.log.info", lambda text, *arguments: logged.append(text % arguments))
    monkeypatch.setattr(assembly, "store", store)
    monkeypatch.setattr(Worker, "run", lambda worker: None)

    said = saga("run", "travel_service:bank", "--upgrade", "--database", "sqlite:///bank.db", "--health", "127.0.0.1:0")

    assert said.code == 0, said.err
    assert [status for status, _ in heard] == [200, 503, 503]
    assert heard[1][1]["reasons"] == ["store: waiting for the database"]
    assert "waiting for the database" in heard[2][1]["error"]


def test_health_is_answered_on_the_port_that_is_named_and_a_wrong_one_is_refused(
    saga: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(assembly, "broker", lambda settings: MemoryBroker(saga_topics("travel"), partitions=4))
    heard: list[int] = []

    def work(worker: Worker) -> None:
        [address] = [record.split()[-1] for record in logged if "health is answered on" in record]
        heard.append(httpx.get(f"{address}/livez").status_code)

    logged: list[str] = []
    monkeypatch.setattr("saga.cli.running.run.log.info", lambda text, *arguments: logged.append(text % arguments))
    monkeypatch.setattr(Worker, "run", work)

    said = saga("run", "travel_service:bank", "--upgrade", "--database", "sqlite:///bank.db", "--health", "127.0.0.1:0")
    wrong = saga("run", "travel_service:bank", "--database", "sqlite:///bank.db", "--health", "everywhere")

    assert (said.code, heard) == (0, [200])
    assert wrong.code == 2
    assert "found 'everywhere' to answer health on; expected host:port" in wrong.err


@pytest.mark.slow
def test_a_process_does_its_part_and_is_drained_by_sigterm(saga: Commands, tmp_path: Path) -> None:
    saga("db", "upgrade", "--database", "sqlite:///hotels.db")
    stores = {name: SqliteStore(tmp_path / f"{name}.db", migrate=True) for name in ("agency", "hotels")}
    for store in stores.values():
        with store.transaction() as tx:
            tx.execute(CREATE_EFFECTS)
    agency = fleet(Script())[0]

    with EmbeddedBroker(saga_topics("travel")) as embedded, started(tmp_path, embedded.servers) as process:
        with Worker(agency, store=stores["agency"], broker=KafkaBroker(embedded.settings())).running() as worker:
            until(lambda: worker.standing().lanes, what="the agency to own a lane")
            with stores["agency"].transaction() as tx:
                agency.start(TripBooked(trip="t"), tx, workflow_id="w1")
            until(lambda: done(stores["hotels"]), what="the hotel to be booked by the other process")
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)

    lines = [orjson.loads(line) for line in told.splitlines()]
    assert process.returncode == 0
    assert [line["message"] for line in lines[-2:]] == ["SIGTERM: draining", "drained"]
    assert {line["level"] for line in lines} == {"info"}


def started(folder: Path, servers: str) -> subprocess.Popen[str]:
    """`saga run` of the hotels, as a process of its own."""
    program = "from saga.cli import main; main()"
    arguments = ["run", "travel_service:hotels", "--log", "json"]
    settings = {"SAGA_BROKER": servers, "SAGA_EMBEDDED": "true", "SAGA_DATABASE": "sqlite:///hotels.db"}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env={**os.environ, **settings, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def done(store: SqliteStore) -> bool:
    """Whether the workflow's step of the hotels is done."""
    return any(workflow.fences["hotel"].status is StepStatus.DONE for _, workflow, _ in store.find("w1"))
