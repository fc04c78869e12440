"""Answers over HTTP to those who ask badly, or not at all: nobody who asks well waits for them."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from urllib.request import urlopen

import pytest

from saga.observe.serving import CONNECTIONS, Answer, as_json, listening
from tests.waiting import until

CONFUSED = "/confused"


def answer(method: str, path: str) -> Answer:
    if path == CONFUSED:
        raise ZeroDivisionError("confused")
    return as_json(HTTPStatus.OK, {"path": path})


@pytest.fixture
def url() -> Iterator[str]:
    with listening(answer, "127.0.0.1:0", "health") as url:
        yield url


def connected(url: str, said: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
    client.sendall(said)
    return client


def is_answered(url: str) -> bool:
    with urlopen(f"{url}/livez", timeout=5) as said:
        return bool(said.status == HTTPStatus.OK)


def others() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("said", [b"", b"GET /li", b"GET /livez HTTP/1.1\r\nA: "], ids=repr)
def test_hundreds_who_connect_and_ask_nothing_make_way_for_who_asks(url: str, said: bytes) -> None:
    before = others()
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(url, said)) for _ in range(CONNECTIONS + 200)]

        until(lambda: others() - before <= CONNECTIONS)
        assert all(is_answered(url) for _ in range(5))
        clients[0].settimeout(5)
        assert b"200" not in clients[0].recv(1000)


def test_who_goes_away_in_the_midst_of_it_leaves_nothing_on_the_screen_and_nothing_in_the_log(
    url: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = others()
    client = connected(url, b"GE")
    until(lambda: others() > before)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its end is a reset, as a probe's
    client.close()
    until(lambda: others() == before)

    assert is_answered(url)
    assert (capfd.readouterr().err, caplog.text) == ("", "")


def test_a_question_over_which_we_stumble_is_in_the_log_and_not_beside_it(
    url: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with connected(url, f"GET {CONFUSED} HTTP/1.0\r\n\r\n".encode()) as client:
        assert client.recv(1000) == b""

    assert "what was asked from 127.0.0.1 could not be answered" in caplog.text
    assert capfd.readouterr().err == ""
    assert is_answered(url)


def test_an_address_of_ipv6_is_listened_at() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")

    with listening(answer, "[::1]:0", "health") as url:
        assert url.startswith("http://[::1]:")
        assert is_answered(url)
