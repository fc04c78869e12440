"""The servers themselves: each comes up, answers, and is gone when it should be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from servers import LocalServer, ServerFailed, fresh_database, kafka, postgres, registry
from servers.__main__ import main
from servers.classes import kept
from servers.programs import Report
from servers.standing import StandingSet
from tests.serving import missing_is_told
from tests.waiting import until

pytestmark = pytest.mark.slow

LOCAL: dict[str, Callable[[Report], LocalServer]] = {
    "kafka": kafka.local,
    "postgres": postgres.local,
    "registry": registry.local,
}


def new_topic(bootstrap: str) -> str:
    topic = f"t-{uuid.uuid4().hex[:12]}"
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([NewTopic(topic, 1)])[topic].result(30)
    return topic


def write(bootstrap: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "compression.type": "lz4"})
    producer.produce(topic, value)
    assert producer.flush(30) == 0


def first_record(bootstrap: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        record = consumer.poll(30)
        assert record is not None
        assert record.error() is None
        return record.value()
    finally:
        consumer.close()


def sleeper(home: Path, script: str = "exec sleep 60", *, answers: bool = True, tethered: bool = True) -> LocalServer:
    home.mkdir()
    return LocalServer("sleeper", "nowhere", home, ["sh", "-c", script], lambda _: answers, tethered=tethered)


def name_of(database: str) -> str:
    return urlsplit(database).path[1:]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_record_goes_through_kafka(kafka: str) -> None:
    topic = new_topic(kafka)

    write(kafka, topic, b"hello")

    assert first_record(kafka, topic) == b"hello"


def test_kafka_makes_no_topic_by_itself(kafka: str) -> None:
    producer = Producer({"bootstrap.servers": kafka, "message.timeout.ms": "3000"})
    failures: list[object] = []

    producer.produce("never-made", b"lost", on_delivery=lambda error, _: failures.append(error))
    producer.flush(30)

    assert [str(failure) for failure in failures if failure is not None] != []
    assert "never-made" not in AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).topics


def test_postgres_runs_a_statement_and_keeps_what_it_promises_to_keep(database: str) -> None:
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT 1, current_setting('fsync'), current_setting('synchronous_commit')").fetchone()

    assert row == (1, "on", "on")


def test_a_fresh_database_is_a_copy_of_its_template_and_is_dropped_with_its_users(postgres: str) -> None:
    with fresh_database(postgres) as template:
        with psycopg.connect(template) as connection:
            connection.execute("CREATE TABLE shelf (item text)")
        with fresh_database(postgres, template=name_of(template)) as copy:
            user = psycopg.connect(copy)
            assert user.execute("SELECT count(*) FROM shelf").fetchone() == (0,)

    with pytest.raises(psycopg.OperationalError):
        user.execute("SELECT 1")
    with psycopg.connect(postgres) as connection:
        left = connection.execute(
            "SELECT datname FROM pg_database WHERE datname = ANY(%s)", [[name_of(template), name_of(copy)]]
        )
        assert left.fetchall() == []
    user.close()


def test_the_registry_takes_a_schema_and_gives_it_back(registry: str) -> None:
    url, subject = urlsplit(registry), f"s-{uuid.uuid4().hex[:12]}"
    connection = HTTPConnection(url.hostname or "", url.port, timeout=30)
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}

    connection.request("POST", f"{url.path}/subjects/{subject}/versions", json.dumps({"schema": '"string"'}), headers)
    registered = connection.getresponse()
    registered.read()
    connection.request("GET", f"{url.path}/subjects")
    subjects = json.loads(connection.getresponse().read())
    connection.close()

    assert registered.status == 200
    assert subject in subjects


@pytest.mark.parametrize("name", LOCAL)
def test_a_server_that_was_stopped_leaves_neither_process_nor_folder(name: str) -> None:
    with missing_is_told(os.environ):
        server = LOCAL[name](print)
    server.start()
    pid = server.pid

    server.stop()

    assert not server.answers(server.address)
    assert not runs(pid)
    assert not server.home.exists()


@pytest.mark.parametrize("name", ["kafka", "registry"])
def test_a_java_server_starts_from_the_classes_that_were_recorded_of_an_earlier_one(name: str) -> None:
    with missing_is_told(os.environ):
        server = LOCAL[name](print)
    try:
        server.start()

        assert "classes.jsa" in Path(f"/proc/{server.pid}/maps").read_text()
    finally:
        server.stop()


def test_a_machine_that_cannot_record_classes_starts_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tried: list[Sequence[str]] = []

    def refused(program: Sequence[str]) -> LocalServer:
        tried.append(program)
        return sleeper(tmp_path / "home", "exit 1", answers=False)

    program = ["/bin/sh", "-jar", "server.jar"]

    assert kept("sleeper", program, refused, print) == program
    assert kept("sleeper", program, refused, print) == program
    assert [one[1].startswith("-XX:ArchiveClassesAtExit=") for one in tried] == [True], "asked once, and for the archive"


def test_a_broker_that_crashed_comes_back_with_its_records_at_its_address() -> None:
    with missing_is_told(os.environ):
        server = LOCAL["kafka"](print)
    try:
        server.start()
        topic = new_topic(server.address)
        write(server.address, topic, b"kept" * 100)

        assert [*server.home.glob("liblz4*.so")], "what it unpacks for that is to be removed with its folder"

        server.crash()
        with pytest.raises(KafkaException):
            AdminClient({"bootstrap.servers": server.address, "log_level": 0}).list_topics(timeout=1)
        server.start()

        assert first_record(server.address, topic) == b"kept" * 100
    finally:
        server.stop()


def test_a_server_does_not_outlive_a_killed_parent() -> None:
    with missing_is_told(os.environ):
        LOCAL["postgres"](print).stop()
    script = "from servers import postgres; s = postgres.local(print); s.start(); print(s.pid, s.home, flush=True); input()"
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent, parent.stdin, parent.stdout:
        pid, home = parent.stdout.readline().split()
        assert runs(int(pid))

        parent.send_signal(signal.SIGKILL)

        until(lambda: not runs(int(pid)), what="the end of the orphan")
    subprocess.run(["rm", "-r", home], check=True)


def test_a_server_that_ends_at_once_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    server = sleeper(tmp_path / "home", "echo the disk is full; exit 3", answers=False)

    with pytest.raises(ServerFailed, match=r"(?s)sleeper ended with code 3 before it answered.*the disk is full"):
        server.start()


def test_a_server_that_never_answers_is_ended_and_told(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = ["sh", "-c", "echo warming up; echo $$ > new; mv new pid; exec sleep 600"]

    def answers(address: str) -> bool:
        until(lambda: (home / "pid").exists(), what="the process to be there")
        return False

    server = LocalServer("sleeper", "nowhere", home, command, answers)

    with pytest.raises(ServerFailed, match=r"(?s)sleeper did not answer within 1 s.*warming up"):
        server.start(within=1)

    assert not runs(int((server.home / "pid").read_text()))


def test_standing_servers_are_started_once_and_only_they_are_taken_down(tmp_path: Path) -> None:
    homes = iter((tmp_path / "first", tmp_path / "second"))
    folder = tmp_path / "state"
    start = {"sleeper": lambda _report, tethered: sleeper(next(homes), tethered=tethered)}

    first = StandingSet(folder, start).up(print)["sleeper"]
    again = StandingSet(folder, start).up(print)["sleeper"]
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: not first.alive, what="the end of the first")
    second = StandingSet(folder, start).up(print)["sleeper"]
    StandingSet(folder, start).down(print)

    assert again == first
    assert second.pid != first.pid
    assert not second.alive
    assert not Path(first.home).exists()
    assert StandingSet(folder, start).members() == {}


def test_a_process_that_has_got_the_id_of_one_of_ours_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    start = {"sleeper": lambda _report, tethered: sleeper(tmp_path / "home", tethered=tethered)}
    ours = StandingSet(folder, start).up(print)["sleeper"]
    written = folder / "servers.json"
    written.write_text(written.read_text().replace(f'"{ours.began}"', '"1"'))

    StandingSet(folder, start).down(print)

    assert ours.alive
    os.kill(ours.pid, signal.SIGKILL)


def test_the_commands_print_what_a_shell_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = {"kafka": lambda _report, tethered: sleeper(tmp_path / "home", tethered=tethered)}
    monkeypatch.setattr("servers.__main__.StandingSet", lambda: StandingSet(tmp_path / "state", start))

    codes = [main([verb]) for verb in ("up", "status", "down", "status")]

    told = capsys.readouterr().out.splitlines()
    assert codes == [0, 1, 0, 1]
    assert told[0] == "export SAGA_BROKER=nowhere"
    assert [line.split()[:2] for line in told[1:]] == [
        ["kafka", "nowhere"],
        ["postgres", "down"],
        ["registry", "down"],
        ["kafka", "down"],
        ["postgres", "down"],
        ["registry", "down"],
    ]


def test_a_command_that_fails_says_why_and_leaves_standard_output_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = {"kafka": lambda _report, tethered: sleeper(tmp_path / "home", "echo no; exit 3", answers=False, tethered=tethered)}
    monkeypatch.setattr("servers.__main__.StandingSet", lambda: StandingSet(tmp_path / "state", start))

    code = main(["up"])

    told = capsys.readouterr()
    assert (code, told.out) == (1, "")
    assert "sleeper ended with code 3" in told.err
