"""`saga observe`: once for programs and mails, and as a page until Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.request import urlopen

import orjson
import pytest

from saga import assembly
from saga.cli.looking import observe
from saga.errors import BrokerError
from saga.observer.observer import Observer
from saga.testing.harness import Harness
from servers.process import free_port
from tests.commands import Commands
from tests.histories import lived


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    with lived() as running:
        monkeypatch.setattr(assembly, "broker", lambda settings: running.broker)
        monkeypatch.setattr(observe, "SystemClock", lambda: running.clock)
        yield running


def test_once_tells_all_in_short_and_that_nothing_needs_a_person(fleet: Harness, contracts: Commands) -> None:
    said = contracts("observe", "--once", "--schemas", "contracts")

    assert said.code == 0, said.err
    assert said.out.startswith("travel: 2 compensated, 1 completed, 1 in progress\n")
    assert "the outcome of flight" in said.out


def test_once_exits_with_1_where_a_workflow_needs_a_person(fleet: Harness, contracts: Commands) -> None:
    fleet.clock.advance(120)

    said, told = (
        contracts("observe", "--once", "--schemas", "contracts"),
        contracts("observe", "--once", "--json", "--schemas", "contracts"),
    )

    assert (said.code, told.code) == (1, 1)
    assert "the outcome of flight by airline is overdue" in said.out
    assert [(one["workflow"], one["concern"]) for one in told.json["alarms"]] == [("open", "overdue")]


def test_a_page_is_there_until_ctrl_c(fleet: Harness, contracts: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{free_port()}"
    pages: list[str] = []

    def read(_: float) -> None:
        with urlopen(f"http://{address}/", timeout=5) as answer:
            pages.append(answer.read().decode())
        raise KeyboardInterrupt

    monkeypatch.setattr(fleet.clock, "sleep", read)

    said = contracts("observe", "--at", address, "--json", "--schemas", "contracts")

    assert said.code == 0, said.err
    assert orjson.loads(said.out) == {"url": f"http://{address}", "saga": "travel"}
    assert "20 records read, the last look was 0 s ago" in pages[0]


def test_a_broker_that_is_away_is_told_once_and_asked_again(
    fleet: Harness, contracts: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([BrokerError("nobody answers", retriable=True)] * 2 + [KeyboardInterrupt()])

    def look(self: Observer) -> None:
        error = next(looks)
        self.trouble = str(error)
        raise error

    monkeypatch.setattr(Observer, "look", look)
    monkeypatch.setattr(fleet.clock, "sleep", lambda _: None)

    said = contracts("observe", "--at", "127.0.0.1:0", "--schemas", "contracts")

    assert said.code == 0
    assert said.err.count("nobody answers; trying again") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--at", "8642"), "found '8642' to answer the page on; expected host:port"),
        (("--idle", "soon"), "found 'soon'; expected a span such as 90s"),
    ],
)
def test_what_makes_no_sense_is_refused(fleet: Harness, contracts: Commands, options: tuple[str, ...], words: str) -> None:
    said = contracts("observe", "--schemas", "contracts", *options)

    assert said.code == 2
    assert words in " ".join(said.err.replace("│", " ").split())
