"""The list of servers that stand until they are taken down, where it is not as it was left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from servers import ServerFailed
from servers.__main__ import main
from servers.standing import Standing, StandingSet


def dead(began: str) -> Standing:
    """A process whose id nobody can have."""
    return Standing("kafka", "nowhere", 2**30, began, "/nowhere/home", signal.SIGTERM)


@pytest.mark.parametrize("began", ["", "1"], ids=["before it was written down", "later"])
def test_a_server_that_has_died_is_down_and_can_be_taken_down(began: str) -> None:
    assert not dead(began).alive
    dead(began).down()


@pytest.mark.parametrize("written", ["", "[]", '{"kafka": {"pid": 1}}', '{"kafka": 7}', "\udcff"])
@pytest.mark.parametrize("verb", ["up", "status", "down"])
def test_a_list_that_is_not_ours_is_named_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], written: str, verb: str
) -> None:
    monkeypatch.setattr("servers.__main__.StandingSet", lambda: StandingSet(tmp_path, {}))
    (tmp_path / "servers.json").write_bytes(os.fsencode(written))

    code = main([verb])

    told = capsys.readouterr()
    assert (code, told.out) == (1, "")
    assert f"{verb}: {tmp_path}/servers.json cannot be read as the list of servers that run" in told.err


def test_nothing_is_started_that_could_not_be_written_down(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()

    def never(_report: object, *, tethered: bool) -> None:
        raise AssertionError("it was started")

    with pytest.raises(ServerFailed, match=r"taken: what runs cannot be written down: .+"):
        StandingSet(tmp_path / "taken", {"kafka": never}).up(print)  # type: ignore[dict-item]
