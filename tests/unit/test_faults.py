"""What faults are made of: the proxy does to connections what networks do, and the page says what was tried."""

from __future__ import annotations

import ast
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from faults import __main__ as command
from faults import beyond, disk, measured
from faults.disk import Trouble
from faults.fault import Fault
from faults.measured import Run, Setting
from faults.proxy import Mode, Proxy
from faults.report import document
from faults.run import FAULTS
from faults.scene import RATE, Outcome, Recovery
from saga.testing.checker.invariant import Invariant, Violation
from saga.testing.checker.judgement import Judgement, Verdict
from servers import LocalServer
from tests.sources import ROOT

PATIENCE = 60.0


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Before a server that says everything back."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_echo, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        with closing(Proxy(f"127.0.0.1:{listener.getsockname()[1]}")) as found:
            yield found


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(1024):
                connection.sendall(data)
        except OSError:
            return


def connected(proxy: Proxy) -> socket.socket:
    host, _, port = proxy.address.rpartition(":")
    found = socket.create_connection((host, int(port)), timeout=PATIENCE)
    found.sendall(b"hello")
    assert found.recv(16) == b"hello"
    return found


def test_what_passes_an_open_proxy_is_what_was_sent(proxy: Proxy) -> None:
    with closing(connected(proxy)) as connection:
        connection.sendall(b"COMMIT")

        assert connection.recv(16) == b"COMMIT"


@pytest.mark.parametrize("mode", [Mode.HOLE, Mode.DEAF])
def test_a_hole_lets_nothing_through_and_refuses_nothing_and_its_connections_are_dead_afterwards(
    proxy: Proxy, mode: Mode
) -> None:
    with closing(connected(proxy)) as connection:
        with proxy.doing(mode):
            connection.settimeout(0.2)
            connection.sendall(b"lost")
            with pytest.raises(TimeoutError):
                connection.recv(16)

        connection.settimeout(PATIENCE)
        with pytest.raises(ConnectionError):
            _until_dead(connection)
        connected(proxy).close()


def test_a_reset_ends_connections_and_new_ones_pass(proxy: Proxy) -> None:
    with closing(connected(proxy)) as connection:
        proxy.reset()

        with pytest.raises(ConnectionError):
            _until_dead(connection)
        connected(proxy).close()


def test_of_a_commit_the_answer_alone_is_lost(proxy: Proxy) -> None:
    with closing(connected(proxy)) as connection, proxy.doing(Mode.CUT_COMMIT):
        connection.sendall(b"INSERT")
        assert connection.recv(16) == b"INSERT"
        connection.sendall(b"COMMIT")

        with pytest.raises(ConnectionError):
            _until_dead(connection)
        assert proxy.cuts == 1


def _until_dead(connection: socket.socket) -> None:
    if not connection.recv(16):
        raise ConnectionResetError("it was closed")


QUIET, LATER = Setting("2030-01-02", "Kafka 4, 2 cores"), Setting("2030-01-03", "Kafka 4, 2 cores", jobs=3, busy=True)


def _run(fault: Fault, setting: Setting, recovery: Recovery, *violations: Violation) -> Run:
    verdicts = [Verdict(Invariant.ORDER, "10 facts", len(violations))]
    outcome = Outcome(4, recovery, Judgement(verdicts, list(violations), 4, 20, 3), [])
    return Run.of(fault.id, "bank", setting, outcome)


def _several() -> list[Run]:
    first, second, third = FAULTS[:3]
    worse = Violation(Invariant.ORDER, "w1", "#2 before #1", "the order of commits")
    return [
        _run(first, QUIET, Recovery(0.5, 1.0)),
        _run(first, LATER, Recovery(1.5, 4.0)),
        _run(second, QUIET, Recovery(2.0, 2.0), worse),
        Run.of(third.id, "bank", QUIET, "it hangs"),
    ]


def test_the_page_tells_runs_violations_and_recovery_of_each_fault() -> None:
    first, second, third, fourth = FAULTS[:4]
    runs = _several()

    page = document(runs, 5.0)

    assert f"| {first.id} | {first.text} | 2 | 8 | 0 | 0.5 / 1.5 | 1.0 / 4.0 | 3 of 20 | a, b |" in page
    assert f"| {second.id} | {second.text} | 1 | 4 | 1 | 2.0 / 2.0 | 2.0 / 2.0 | 3 of 20 | a |" in page
    assert f"| {third.id} | {third.text} | 0, 1 came to no end | 0 | 0 | - | - | 0 of 0 | a |" in page
    assert f"| {fourth.id} | {fourth.text} | not measured |" in page
    assert "- **a**: 3 runs on 2030-01-02, Kafka 4, 2 cores." in page
    assert "- **b**: 1 run on 2030-01-03, 3 at a time, each with servers of its own and beside other work" in page
    assert [run.holds for run in runs] == [True, True, False, False]


def test_a_fault_that_cannot_be_injected_here_and_has_no_runs_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    disks = next(fault for fault in FAULTS if fault.id == "F-20")

    assert f"| F-20 | {disks.text} | not injected here: no C compiler (cc) is on this machine |" in document([], 5.0)


def test_runs_are_kept_as_they_were_found(tmp_path: Path) -> None:
    measured.write(_several(), tmp_path / "runs.jsonl")

    assert sorted(measured.read(tmp_path / "runs.jsonl"), key=repr) == sorted(_several(), key=repr)


def test_the_page_that_is_there_tells_of_the_runs_that_are_kept() -> None:
    runs = measured.read()

    assert (ROOT / "docs" / "reliability.md").read_text() == document(runs, RATE)
    assert {run.fault for run in runs} <= {fault.id for fault in FAULTS}


def test_a_disk_of_a_server_is_as_it_is_told_and_well_again_afterwards(tmp_path: Path) -> None:
    if why := disk.lacking():
        pytest.skip(why)
    write = "import os; os.write(os.open('page', os.O_CREAT | os.O_RDWR), b'x')"
    server = LocalServer("disk", "", tmp_path, [], lambda _: True)
    under = disk.under(server)

    def write_a_page() -> str:
        command = [sys.executable, "-c", write]
        return subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **server.environment}, capture_output=True, text=True
        ).stderr

    with under.having(Trouble.FULL):
        assert "No space left on device" in write_a_page()
    with under.having(Trouble.BROKEN):
        assert "Input/output error" in write_a_page()
    assert under.was_met()
    with under.having(Trouble.SLOW):
        assert not under.was_met()
    assert write_a_page() == ""


def test_without_a_compiler_faults_of_disks_are_not_injected_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)

    assert disk.lacking() == "no C compiler (cc) is on this machine"
    assert [fault.id for fault in FAULTS if fault.lacking()] == ["F-20", "F-20a", "F-20b", "F-20c", "F-21", "F-21a"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--soak", "0"], "Invalid value for '--soak'"),
        (["--soak", "-5"], "Invalid value for '--soak'"),
        (["--soak", "5", "--only", "F-12"], "found --soak with --only"),
        (["--soak", "5", "--page", "beside"], "found --soak with --page"),
        (["--seed", "7", "--only", "F-12"], "found --seed without --soak"),
        (["--only", "F-12,F-13"], "there is no fault F-12,F-13; there are F-1, F-2"),
    ],
)
def test_what_would_not_be_heeded_is_refused_before_any_server_is_started(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.setattr(command, "serving", lambda _: pytest.fail("a server was started"))

    said = CliRunner().invoke(command.app, arguments)

    assert (said.exit_code, said.stdout) == (2, "")
    assert told in " ".join(said.stderr.split())


def test_no_fault_is_told_of_twice() -> None:
    told = [fault.id for fault in FAULTS]
    told += [id for row in (*beyond.SHOWN, *beyond.MISSING) for id in row[0].split(", ")]

    assert len(told) == len(set(told))


@pytest.mark.parametrize("test", [row[2] for row in (*beyond.SHOWN, *beyond.PROMISES) if row[2] != "-"])
def test_what_is_said_to_be_shown_by_a_test_names_one_that_exists(test: str) -> None:
    file, _, name = test.partition("::")
    names = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)}

    assert not name or name in names
