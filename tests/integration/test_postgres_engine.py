"""The engine on PostgreSQL: who is blamed for a statement that failed late, and what becomes of a COMMIT without an answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from urllib.parse import urlsplit

import psycopg
import pytest

from saga import Participant, Retry, Transaction
from saga.contracts.topics import events_topic, saga_topics
from saga.engine.health import State
from saga.engine.loop import TROUBLE_PAUSE, Loop
from saga.errors import Overstayed, StoreError
from saga.store.memory import MemoryStore
from saga.store.port import Store
from saga.store.postgres import PostgresStore
from saga.testing.clock import ManualClock
from saga.transport.memory import MemoryBroker
from saga.transport.port import Outbound
from tests.travel import Away, HotelBooked, HotelFreed, HotelFull, TripBooked, TripCancelled, TripConfirmed, TripPaid, saga
from tests.waiting import until

pytestmark = pytest.mark.slow

LANES = 1


def keys(published: Sequence[Outbound]) -> list[bytes]:
    """Those of the facts: acknowledgments have none."""
    return [row.key for row in published if row.key]


class Hotels:
    """The agency on a memory store and the hotels on PostgreSQL, turned by hand; `published` is what the latter published.

    The hotels need a front desk, which does not answer while it is `away`; `asked` tells the trips it was asked about, each of
    which takes it `seconds`, and the `dawdler` two.
    """

    def __init__(self, store: PostgresStore) -> None:
        self.store, self.clock, self.published = store, ManualClock(), list[Outbound]()
        self.broker = MemoryBroker(saga_topics("travel"), partitions=LANES, fault=self.published.append)
        self.agency, self.participant, self.agency_store = agency(), Participant("hotels", saga()), MemoryStore()

        self.away, self.asked, self.seconds = False, list[str](), 0.0
        self.dawdler: str | None = None
        desk = self.participant.dependency("front-desk", errors=[Away], minimum_calls=5, pause=5)

        @self.participant.step(retry=Retry(quick=1), needs=desk)
        def hotel(booked: TripBooked, tx: Transaction) -> HotelBooked | HotelFull:
            tx.execute("INSERT INTO rooms VALUES (%s)", [booked.trip])
            self.asked.append(booked.trip)
            seconds = 2.0 if booked.trip == self.dawdler else self.seconds
            time.sleep(seconds)
            self.clock.sleep(seconds)
            if self.away:
                raise Away(booked.trip)
            return HotelBooked(trip=booked.trip)

        @self.participant.compensation(of=hotel)
        def free_hotel(booked: HotelBooked, tx: Transaction) -> HotelFreed:
            tx.execute("DELETE FROM rooms WHERE trip = %s", [booked.trip])
            return HotelFreed(trip=booked.trip)

        self.agency_loop = joined(self.agency, self.agency_store, self.broker, self.clock)
        self.loop = joined(self.participant, store, self.broker, self.clock)

    def book(self, *trips: str) -> None:
        """Let the agency publish these trips."""
        with self.agency_store.transaction() as tx:
            for trip in trips:
                self.agency.start(TripBooked(trip=trip), tx, workflow_id=f"trip-{trip}")
        settle(self.agency_loop)
        self.published.clear()

    def rest(self) -> None:
        """Let the lane's pause after trouble pass, and the lane awake."""
        self.clock.sleep(TROUBLE_PAUSE)
        self.loop.turn()

    def close(self) -> None:
        self.loop.abandon()
        self.agency_loop.abandon()

    def parked(self) -> dict[str, str]:
        """Why, by workflow."""
        with self.store.transaction() as tx:
            return dict(tx.execute("SELECT workflow_id, error FROM saga_fence WHERE error IS NOT NULL").fetchall())

    @property
    def rooms(self) -> list[str]:
        with self.store.transaction() as tx:
            return [trip for (trip,) in tx.execute("SELECT trip FROM rooms ORDER BY trip").fetchall()]


def agency() -> Participant:
    agency = Participant("agency", saga())

    @agency.compensation(of="book")
    def cancel(booked: TripBooked, tx: Transaction) -> TripCancelled:
        return TripCancelled(trip=booked.trip)

    @agency.step
    def confirm(paid: TripPaid, tx: Transaction) -> TripConfirmed:
        return TripConfirmed(trip=paid.trip)

    return agency


def joined(participant: Participant, store: Store, broker: MemoryBroker, clock: ManualClock) -> Loop:
    """A loop that owns all lanes."""
    loop = Loop(
        participant,
        store,
        broker,
        LANES,
        batch=500,
        stopping=threading.Event(),
        chance=lambda: 0.5,
        clock=clock,
        idle_wait=0.0,
        mark_after=0.0,
    )
    loop.join()
    settle(loop)
    return loop


def settled(loop: Loop, published: Sequence[Outbound]) -> list[bytes]:
    """The keys of what is published once nothing moves; the server's word of another transaction may come a moment later."""
    settle(loop)
    return keys(published)


def settle(loop: Loop) -> None:
    """Turn until nothing moves."""
    for _ in range(100):
        if not loop.turn():
            return
    pytest.fail("the loop is still busy after 100 turns")


class Proxy:
    """A server's stand-in that cuts the line around the next COMMIT when it is told to.

    `cut="before"`: COMMIT never arrives. `cut="after"`: it is carried out, its answer never arrives. `patience`: for so many
    seconds, or until it is closed, nobody hears that the server has closed a line: of `lines` it has `left` so many.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target, self.cut, self.cuts = (host, port), "", 0
        self.patience, self.lines, self.left, self.closing = 0.0, 0, 0, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.lines += 1
            thread = threading.Thread(target=self._serve, args=[client], daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.target) as server:
            line = _Line(self, client, server)
            back = threading.Thread(target=line.answers, daemon=True)
            back.start()
            line.requests()
            back.join(10)


class _Line:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server, self.silent = proxy, client, server, False

    def requests(self) -> None:
        while data := _received(self.client):
            if b"COMMIT\0" in data and self.proxy.cut:
                self.proxy.cuts += 1
                if self.proxy.cut == "before":
                    break
                self.silent = True
            with suppress(OSError):  # it has left, which `answers` tells
                self.server.sendall(data)
        self.end()

    def answers(self) -> None:
        heard = b""
        while data := _received(self.server):
            if not self.silent:
                with suppress(OSError):  # it has left, which `requests` tells
                    self.client.sendall(data)
                continue
            heard += data
            if b"COMMIT\0" in heard:
                break
        self.proxy.left += 1
        self.proxy.closing.wait(self.proxy.patience)
        self.end()

    def end(self) -> None:
        self.proxy.cut = "" if self.proxy.cuts else self.proxy.cut
        for side in (self.client, self.server):
            with suppress(OSError):  # the other direction was quicker
                side.shutdown(socket.SHUT_RDWR)


def _received(side: socket.socket) -> bytes:
    try:
        return side.recv(1 << 16)
    except OSError:
        return b""


@contextmanager
def hotels(url: str, *, idle_timeout: float = 4.0) -> Iterator[Hotels]:
    with ExitStack() as stack:
        store = stack.enter_context(closing(PostgresStore(url, migrate=True, lock_timeout=1.0, idle_timeout=idle_timeout)))
        with store.transaction() as tx:
            tx.execute("CREATE TABLE rooms (trip TEXT PRIMARY KEY CONSTRAINT trips_are_good CHECK (trip <> 'bad'))")
        yield stack.enter_context(closing(Hotels(store)))


@pytest.fixture
def proxy(database: str) -> Iterator[Proxy]:
    url = urlsplit(database)
    assert url.hostname is not None
    assert url.port is not None
    with closing(Proxy(url.hostname, url.port)) as proxy:
        yield proxy


@pytest.fixture
def proxied(database: str, proxy: Proxy) -> str:
    url = urlsplit(database)
    return url._replace(netloc=f"{url.username}@127.0.0.1:{proxy.port}").geturl()


def test_one_bad_statement_in_a_batch_of_200_is_blamed_on_its_own_workflow(database: str) -> None:
    trips = [f"{n:03}" for n in range(200)]
    with hotels(database) as running:
        running.book(*trips[:120], "bad", *trips[120:])

        settle(running.loop)
        parked, meanwhile = running.parked(), running.rooms
        with running.store.transaction() as tx:
            tx.execute("ALTER TABLE rooms DROP CONSTRAINT trips_are_good")
        running.clock.sleep(3600)
        settle(running.loop)

        assert list(parked) == ["trip-bad"]
        assert "trips_are_good" in parked["trip-bad"]
        assert meanwhile == trips
        assert running.rooms == sorted([*trips, "bad"])
        assert sorted(keys(running.published)) == sorted(f"trip-{trip}".encode() for trip in [*trips, "bad"])
        assert running.parked() == {}


def test_a_batch_of_200_that_meets_a_dead_dependency_leaves_nothing_behind_and_costs_a_few_calls(database: str) -> None:
    trips = [f"{n:03}" for n in range(200)]
    with hotels(database) as running:
        running.book(*trips)
        running.away = True

        settle(running.loop)
        parked, meanwhile, calls = running.parked(), running.rooms, len(running.asked)
        running.away = False
        running.clock.sleep(60)
        settle(running.loop)

        assert len(parked) == 200
        assert {why.partition(":")[0] for why in parked.values()} == {"waits for front-desk"}
        assert (meanwhile, calls) == ([], 5)
        assert running.rooms == trips
        assert len(running.asked) == 205
        assert running.parked() == {}


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_commit_without_an_answer_is_looked_up_and_nothing_happens_twice(proxied: str, proxy: Proxy, cut: str) -> None:
    with hotels(proxied) as running:
        running.book("1", "2", "3")

        proxy.cut = cut
        settle(running.loop)
        after_the_cut = len(keys(running.published))
        running.rest()
        settle(running.loop)

        assert proxy.cuts == 1
        assert after_the_cut == {"before": 0, "after": 3}[cut]
        assert running.rooms == ["1", "2", "3"]
        assert sorted(keys(running.published)) == [b"trip-1", b"trip-2", b"trip-3"]
        assert {row.topic for row in running.published if row.key} == {events_topic("travel")}
        assert running.parked() == {}


def test_the_last_words_of_a_server_are_believed_before_it_closes_the_line(proxied: str, proxy: Proxy) -> None:
    with closing(PostgresStore(proxied, migrate=True, lock_timeout=0.3, idle_timeout=0.5)) as store:
        lane = store.claim("travel", 0, LANES)

        def dawdle() -> None:
            with store.unit() as unit:
                unit.load("travel", ["trip-1"])
                until(lambda: proxy.left == proxy.lines, what="the server to leave")
                unit.advance(lane)

        until(lambda: proxy.left == proxy.lines - 1, what="the end of the lines on which the store was opened")
        proxy.patience = 60.0
        with pytest.raises(StoreError, match=r"nothing was committed: .*timeout") as raised:
            dawdle()
        proxy.closing.set()

    assert type(raised.value) is Overstayed


def test_a_server_that_goes_away_in_the_middle_costs_a_pause_and_nothing_else(database: str) -> None:
    with hotels(database) as running:
        settle(running.loop)
        running.book("1", "2")

        with psycopg.connect(database, autocommit=True) as administrator:
            administrator.execute(
                "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        settle(running.loop)
        running.rest()
        settle(running.loop)

        assert running.rooms == ["1", "2"]
        assert sorted(keys(running.published)) == [b"trip-1", b"trip-2"]


def test_slow_handlers_are_committed_before_the_server_loses_patience_with_their_transaction(database: str) -> None:
    with hotels(database, idle_timeout=1.8) as running:
        running.seconds = 0.2
        running.book(*map(str, range(15)))

        settle(running.loop)

        assert len(running.asked) == len(running.rooms) == 15


def test_a_handler_that_dawdles_for_longer_than_the_server_waits_is_to_blame_and_holds_up_nobody(database: str) -> None:
    with hotels(database, idle_timeout=1.0) as running:
        running.dawdler = "2"
        running.book(*map(str, range(5)))

        settle(running.loop)

        assert running.rooms == ["0", "1", "3", "4"]
        assert list(running.parked()) == ["trip-2"]
        assert "idle-in-transaction timeout" in running.parked()["trip-2"]
        assert [part.state for part in running.loop.lanes.parts({})] == [State.READY] * LANES


def test_events_of_a_web_request_and_of_the_lane_are_published_in_order_of_their_numbers(database: str) -> None:
    published = list[Outbound]()
    broker = MemoryBroker(saga_topics("travel"), partitions=LANES, fault=published.append)
    initiator = agency()
    with closing(PostgresStore(database, migrate=True)) as store:
        loop = joined(initiator, store, broker, ManualClock())
        with psycopg.connect(database) as web:
            initiator.start(TripBooked(trip="1"), store.join(web), workflow_id="trip-1")
            with psycopg.connect(database) as quicker:
                initiator.start(TripBooked(trip="2"), store.join(quicker), workflow_id="trip-2")
            until(lambda: settled(loop, published), what="word of the second trip")
            early = keys(published)
        with store.transaction() as tx:
            initiator.abort("trip-1", tx, reason="changed my mind")

        settle(loop)
        loop.abandon()

    of_the_first = [str(dict(row.headers)["ce_sequence"]) for row in published if row.key == b"trip-1"]
    assert early == [b"trip-2"]
    assert of_the_first[:2] == ["1", "2"]
    assert of_the_first == sorted(of_the_first)
