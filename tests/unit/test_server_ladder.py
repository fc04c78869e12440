"""Where a server comes from, told with servers that do not exist."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from servers import Ladder, LocalServer, ServerFailed, ServerMissing
from servers.maven import cached
from tests.serving import serving

HERE: Mapping[str, str] = {"SAGA_TEST_THING": "given:1"}


class Thing:
    """A ladder whose rungs write down what happens to them; `docker` and `here` tell what holds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, docker: bool = False, image: bool = True, here: bool = True) -> None:
        self.events: list[str] = []
        self._image, self._here = image, here
        monkeypatch.setattr("servers.ladder.docker_answers", lambda: docker)

    def ladder(self, answering: str = "given:1") -> Ladder:
        return Ladder(
            "thing", "SAGA_TEST_THING", lambda address: address == answering, self._container, self._fetch, self._local
        )

    @contextmanager
    def _container(self) -> Iterator[str]:
        if not self._image:
            raise ServerMissing("no such image")
        yield "docker:1"
        self.events.append("container removed")

    def _fetch(self, _report: object) -> None:
        self.events.append("fetched")

    def _local(self, _report: object) -> LocalServer:
        if not self._here:
            raise ServerMissing("thing is not here")
        events = self.events

        class Recorded(LocalServer):
            def start(self, within: float = 60.0) -> None:
                events.append("started")

            def stop(self) -> None:
                events.append("stopped")

        return Recorded("thing", "local:1", Path("nowhere"), [], lambda _: True)


def test_an_address_in_the_environment_is_taken_and_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    thing = Thing(monkeypatch, docker=True)

    with serving(thing.ladder(), HERE) as address:
        assert address == "given:1"
    thing.ladder().prepare(HERE, print)

    assert thing.events == []


def test_an_address_at_which_nobody_answers_is_an_error_and_no_reason_to_look_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    thing = Thing(monkeypatch)

    with pytest.raises(ServerFailed, match="SAGA_TEST_THING is given:1, but no thing answers there"):
        serving(thing.ladder(answering="other:1"), HERE).__enter__()

    assert thing.events == []


def test_docker_goes_before_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    thing = Thing(monkeypatch, docker=True)

    with serving(thing.ladder(), {}) as address:
        assert address == "docker:1"

    assert thing.events == ["container removed"]


def test_docker_that_cannot_run_the_image_gives_way_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    thing = Thing(monkeypatch, docker=True, image=False)

    with serving(thing.ladder(), {}) as address:
        assert address == "local:1"

    assert thing.events == ["started", "stopped"]


def test_a_server_is_stopped_when_the_test_that_used_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    thing = Thing(monkeypatch)

    with pytest.raises(ZeroDivisionError), serving(thing.ladder(), {}):
        _ = 1 / 0

    assert thing.events == ["started", "stopped"]


def test_what_this_machine_needs_is_fetched_when_no_better_rung_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    thing = Thing(monkeypatch)

    thing.ladder().prepare({}, print)

    assert thing.events == ["fetched"]


def test_a_missing_server_skips_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    thing = Thing(monkeypatch, here=False)

    with pytest.raises(pytest.skip.Exception, match="thing is not here"):
        serving(thing.ladder(), {}).__enter__()


def test_a_missing_server_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    thing = Thing(monkeypatch, here=False)

    with pytest.raises(pytest.fail.Exception, match="thing is not here"):
        serving(thing.ladder(), {"CI": "true"}).__enter__()


def test_a_download_that_broke_off_leaves_nothing_that_could_be_taken_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def break_off(folder: Path) -> None:
        (folder / "half").touch()
        raise ServerFailed("the line went dead")

    with pytest.raises(ServerFailed, match="went dead"):
        cached("thing", ("thing:1",), break_off, print)
    folder = cached("thing", ("thing:1",), lambda folder: (folder / "whole").touch(), print)

    assert [entry.name for entry in folder.iterdir()] == ["whole"]


def test_two_who_want_the_same_at_once_fetch_it_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fetches: list[Path] = []
    entered, go_on = threading.Event(), threading.Event()

    def fetch(folder: Path) -> None:
        fetches.append(folder)
        entered.set()
        assert go_on.wait(10)

    threads = [threading.Thread(target=cached, args=("thing", ("thing:1",), fetch, print)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)

    assert len(fetches) == 1
    assert cached("thing", ("thing:1",), fetch, print).is_dir()


def test_another_version_is_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    first, second = (cached("thing", (version,), lambda _: None, print) for version in ("thing:1", "thing:2"))

    assert first != second
