"""Who is told of parked workflows: after the commit, of what waits for an operator, and to nobody's harm."""

from __future__ import annotations

import logging
import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from http.client import BadStatusLine
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
import pytest

from saga import Parked, Retry
from saga.errors import DefinitionError
from saga.observe import webhook as webhooks
from saga.observe.webhook import Webhook
from saga.protocol.facts import WorkflowStatus
from saga.testing.harness import Harness
from tests.travel import Script, TripBooked, harness
from tests.waiting import until

Travel = Callable[..., Harness]
SECRET = "hunter2"
PARKED = Parked(
    saga="travel",
    participant="hotels",
    workflow_id="w1",
    step="hotel",
    status="idle",
    error="RuntimeError: no",
    attempts=3,
    due=None,
    since=datetime(2026, 3, 1, tzinfo=UTC),
)


@pytest.fixture
def travel() -> Iterator[Travel]:
    """Makes fleets that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(harness(*arguments, **options))


def test_an_operator_is_told_once_the_tries_are_spent_and_after_the_commit(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), retry=Retry(attempts=2, quick=0, first=10, longest=10))
    told: list[Parked] = []
    known: list[str | None] = []

    @fleet.participants["hotels"].on_parked
    def page(parked: Parked) -> None:
        workflow = fleet.workflow("hotels", parked.workflow_id)
        known.append(workflow.fences["hotel"].error if workflow else None)
        told.append(parked)

    fleet.start(TripBooked(trip="rome"), workflow_id="w1")
    fleet.settle()
    before = [*told]
    fleet.advance(11)

    assert before == []
    [parked] = told
    assert (parked.saga, parked.participant, parked.workflow_id, parked.step) == ("travel", "hotels", "w1", "hotel")
    assert (parked.attempts, parked.due, parked.since) == (2, None, fleet.clock.now())
    assert known == [parked.error]
    assert "unlucky with rome" in parked.error


def test_who_asks_for_every_one_hears_of_those_that_are_tried_again(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 1}), retry=Retry(attempts=2, quick=0, first=10, longest=10))
    told: list[Parked] = []
    fleet.participants["hotels"].on_parked(every=True)(told.append)

    fleet.start(TripBooked(trip="rome"), workflow_id="w1")
    fleet.settle()

    assert [parked.due is not None for parked in told] == [True]


def test_a_listener_that_fails_is_logged_and_hurts_nobody(travel: Travel, caplog: pytest.LogCaptureFixture) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 1}), retry=Retry(attempts=2, quick=0, first=10, longest=10))

    @fleet.participants["hotels"].on_parked(every=True)
    def broken(parked: Parked) -> None:
        raise ZeroDivisionError("the pager is broken")

    fleet.start(TripBooked(trip="rome"), workflow_id="w1")
    fleet.settle()
    fleet.advance(11)

    assert "the pager is broken" in caplog.text
    assert fleet.workflow("hotels", "w1").status is WorkflowStatus.COMPLETED  # type: ignore[union-attr]


def test_what_is_told_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        PARKED.error = "fine"  # type: ignore[misc]


class Ear(BaseHTTPRequestHandler):
    """Answers 503 as often as it is told to, then 200, or that it has `moved`, and keeps what it heard."""

    url: str
    heard: list[bytes]
    credentials: list[str | None]
    refusals: list[int]
    moved: int | None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.credentials.append(self.headers["authorization"])
        refused = bool(self.refusals) and self.refusals.pop() > 0
        if not refused and self.moved is None:
            self.heard.append(body)
        self.send_response(503 if refused else self.moved or 200)
        if self.moved is not None:
            self.send_header("location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def ear() -> Iterator[type[Ear]]:
    Ear.heard, Ear.refusals, Ear.moved, Ear.credentials = [], [], None, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    Ear.url = f"http://127.0.0.1:{server.server_port}/hook?token={SECRET}"
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield Ear
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_posts_json_and_tries_again(ear: type[Ear]) -> None:
    ear.refusals.append(1)
    webhook = Webhook(ear.url, pause=0.01)

    webhook(PARKED)
    webhook.close()

    [body] = ear.heard
    assert orjson.loads(body)["error"] == "RuntimeError: no"
    assert orjson.loads(body)["due"] is None
    assert orjson.loads(body)["since"] == "2026-03-01T00:00:00+00:00"


def test_what_cannot_be_posted_is_logged_without_the_secret(ear: type[Ear], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ear.refusals.extend([1, 1, 1])
    webhook = Webhook(ear.url, pause=0.01)

    webhook(PARKED)
    webhook.close()

    assert ear.heard == []
    assert "127.0.0.1 was not told of a parked workflow, after 3 attempts: it answered 503" in caplog.text
    assert SECRET not in caplog.text


def test_a_user_and_password_in_the_address_are_shown_to_the_host_alone(
    ear: type[Ear], caplog: pytest.LogCaptureFixture
) -> None:
    ear.refusals.extend([0, 1, 1, 1])
    webhook = Webhook(ear.url.replace("http://", f"http://saga:{SECRET}%21@"), pause=0.01)

    webhook(PARKED)
    webhook(PARKED)
    webhook.close()

    assert {*ear.credentials} == {f"Basic {b64encode(f'saga:{SECRET}!'.encode()).decode()}"}
    assert "127.0.0.1 was not told of a parked workflow" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "url",
    [f"http://ear/hook {SECRET}", f"http://ear/{SECRET}\x00", f"http://ear:{SECRET}/", f"http://ear:0/{SECRET}",
     f"http://ear:99999/{SECRET}", f"http://ear/{SECRET}/ü"],
)  # fmt: skip
def test_an_address_to_which_nothing_could_ever_be_posted_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(DefinitionError, match="expected https://host/path") as refused:
        Webhook(url)

    assert SECRET not in str(refused.value)


def _drip(server: socket.socket) -> None:
    pace = threading.Event()
    with suppress(OSError):  # the test is over, or whoever listened has gone
        while True:
            client, _ = server.accept()
            with client, suppress(OSError):
                client.recv(65536)
                client.sendall(b"HTTP/1.1 200 OK\r\nA: ")
                while not pace.wait(0.02):
                    client.sendall(b"a")


def test_an_ear_that_answers_byte_by_byte_is_given_up_and_the_next_is_told(
    ear: type[Ear], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte came in time, so the thread waited for ever, and of all later alarms none was told."""
    monkeypatch.setattr(webhooks, "LONGEST", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_drip, args=[server], daemon=True).start()
        webhook = Webhook(f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}", pause=0.01)

        webhook(PARKED)
        webhook(PARKED)
        webhook.close()
        server.shutdown(socket.SHUT_RDWR)

    assert caplog.text.count("after 3 attempts: its answer was not there after 0.2 s") == 2


def test_what_an_ear_answers_at_length_is_not_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def post(body: bytes) -> None:
        raise BadStatusLine(SECRET * 10_000)

    webhook = Webhook("http://ear", post=post, pause=0.01)

    webhook(PARKED)
    webhook.close()

    assert "after 3 attempts: BadStatusLine; see" in caplog.text


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_an_address_that_has_moved_is_told_and_not_taken_for_one_that_has_heard(
    ear: type[Ear], caplog: pytest.LogCaptureFixture, code: int
) -> None:
    ear.moved = code
    webhook = Webhook(ear.url, pause=0.01)

    webhook(PARKED)
    webhook.close()

    assert ear.heard == []
    assert f"it answered {code}, which leads elsewhere; correct SAGA_WEBHOOK; see: saga parked" in caplog.text


def posting() -> tuple[Webhook, threading.Event]:
    """A webhook in the middle of its first post, which ends with the event; two more find room."""
    entered, go_on = threading.Event(), threading.Event()

    def dawdle(body: bytes) -> None:
        entered.set()
        go_on.wait(20)

    webhook = Webhook("https://pager/hook", post=dawdle, queued=2)
    webhook(PARKED)
    until(entered.is_set, what="the first post")
    return webhook, go_on


def test_a_webhook_that_does_not_keep_up_drops_and_counts_and_never_blocks(caplog: pytest.LogCaptureFixture) -> None:
    webhook, go_on = posting()
    for _ in range(5):
        webhook(PARKED)
    go_on.set()
    webhook.close()

    assert "pager was not told of 3 parked workflows; see: saga parked" in caplog.text


def test_what_could_not_be_posted_before_the_end_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    webhook, go_on = posting()
    for _ in range(3):  # one of them finds no room
        webhook(PARKED)
    with monkeypatch.context() as patch:
        patch.setattr(webhooks, "FAREWELL", 0.01)
        webhook.close()
    told = [record.getMessage() for record in caplog.records]
    go_on.set()
    webhook.close()

    assert told[1:] == ["pager was not told of 4 parked workflows; see: saga parked"]


def test_no_address_is_refused_without_showing_it() -> None:
    with pytest.raises(DefinitionError, match="no address") as refused:
        Webhook(f"file:///etc/{SECRET}")

    assert SECRET not in str(refused.value)
