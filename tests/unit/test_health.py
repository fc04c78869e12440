"""What a worker says of itself: degraded while something is away, dead only where a new process may help."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import httpx
import pytest

from saga import Worker
from saga.contracts.topics import saga_topics
from saga.engine.health import Health, Part, State
from saga.engine.pulse import SLOW, STALLED, Pulse
from saga.engine.watch import UNANSWERED, UNPUBLISHED_PATIENCE, Watch
from saga.errors import BrokerError, DefinitionError, LaneStopped
from saga.observe.health import asgi, served
from saga.participant.participant import Participant
from saga.store.dead_letter import DeadLetter, LetterSearch, LetterState, Place, Reason
from saga.store.memory import MemoryStore
from saga.store.memory_unit import MemoryUnit
from saga.testing.clock import ManualClock
from saga.transport.memory import MemoryBroker, MemoryConsumer
from saga.transport.port import Assignments, Outbound, Partition
from tests.flaky import FlakyStore
from tests.services.asgi import client
from tests.travel import Script, TripBooked, fleet
from tests.waiting import until

TOPICS = saga_topics("travel")


class FlakyBroker(MemoryBroker):
    away = False

    def partitions(self, topics: Sequence[str]) -> dict[str, int | None]:
        if self.away:
            raise BrokerError("nobody answers", retriable=True)
        return super().partitions(topics)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saga.engine.watch.LOOK_EVERY", 0.05)


@pytest.fixture
def broker() -> FlakyBroker:
    return FlakyBroker(TOPICS, partitions=2)


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore()


def part(health: Health, name: str) -> Part:
    [found] = [part for part in health.parts if part.name == name]
    return found


def agency(clock: ManualClock | None = None) -> Participant:
    return fleet(Script(), clock=clock)[0]


def test_a_worker_that_has_all_it_needs_is_ready(broker: FlakyBroker, store: FlakyStore) -> None:
    with Worker(agency(), store=store, broker=broker).running() as worker:
        until(lambda: len(worker.standing().lanes) == 2, what="the lanes")
        until(lambda: worker.health().ready, what="the first look")
        health = worker.health()

    assert health.reasons == []
    assert {p.name for p in health.parts} == {
        *("worker", "thread saga-agency-0", "lane 0", "lane 1", "broker", "store", "outbox", "parked")
    }


def test_a_worker_that_is_told_to_stop_before_it_has_begun_ends_at_once_and_runs_the_next_time(
    broker: FlakyBroker, store: FlakyStore
) -> None:
    worker = Worker(agency(), store=store, broker=broker)
    worker.stop()

    running = threading.Thread(target=worker.run, daemon=True)
    running.start()
    running.join(10)

    assert not running.is_alive()
    with worker.running():
        until(lambda: len(worker.standing().lanes) == 2, what="the lanes")


class Held(threading.Event):
    """A signal comes, and another one, while the lock of the event is held by whoever waits for it."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is None:
            with self._cond:  # type: ignore[attr-defined]
                signal.raise_signal(self.number)
                signal.raise_signal(self.number)
        return super().wait(timeout)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=["ours", "of the service's own"])
def test_a_signal_that_interrupts_whoever_holds_the_lock_ends_the_worker_all_the_same(
    broker: FlakyBroker, store: FlakyStore, number: signal.Signals
) -> None:
    worker = Worker(agency(), store=store, broker=broker)
    worker._stopping = told = Held(number)
    before = signal.signal(signal.SIGUSR1, lambda *_: worker.stop())

    try:
        worker.run()
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert told.is_set()


def says(health: Health, *texts: str) -> bool:
    return all(text in str(health.reasons) for text in texts)


def test_a_worker_that_waits_for_its_broker_is_alive_and_degraded(broker: FlakyBroker, store: FlakyStore) -> None:
    broker.away = True
    with Worker(agency(), store=store, broker=broker).running() as worker:
        until(lambda: says(worker.health(), "broker: ", "waiting for the broker"), what="health to say so")
        away = worker.health()
        broker.away = False
        until(lambda: worker.health().ready, what="the worker to be ready by itself")

    assert (away.state, away.alive) == (State.DEGRADED, True)
    assert "thread saga-agency-0: waiting for the broker: nobody answers" in away.reasons
    assert part(away, "broker").text.endswith("nobody answers")


def test_a_worker_whose_database_is_away_says_which_lanes_rest(broker: FlakyBroker, store: FlakyStore) -> None:
    with Worker(agency(), store=store, broker=broker).running() as worker:
        until(lambda: len(worker.standing().lanes) == 2, what="the lanes")
        store.away = True
        broker.append(Outbound("t", TOPICS[0], 0, b"w", b"", [("ce_id", "1")]))
        until(lambda: part(worker.health(), "store").state is State.DEGRADED, what="health to say so")
        assert worker.health().alive
        store.away = False
        until(lambda: part(worker.health(), "store").state is State.READY, what="the store to be back")


def test_what_ends_a_thread_makes_the_worker_dead_and_is_told_at_once(store: FlakyStore) -> None:
    told: list[BaseException] = []
    broken = MemoryBroker([TOPICS[0]], partitions=2)
    broken.create(TOPICS[1:], 3, {})
    worker = Worker(agency(), store=store, broker=broken)

    seen: list[Health] = []

    def embed() -> None:
        with worker.running(failed=told.append):
            until(lambda: told, what="the news")
            seen.append(worker.health())

    with pytest.raises(DefinitionError, match="partition counts"):
        embed()
    [health] = seen

    assert told == [worker.failure]
    assert (health.state, health.alive) == (State.DEAD, False)
    assert "it ended: DefinitionError" in part(health, "worker").text


def test_a_worker_that_does_not_run_is_not_ready_and_not_dead(broker: FlakyBroker, store: FlakyStore) -> None:
    health = Worker(agency(), store=store, broker=broker).health()

    assert (health.state, health.alive) == (State.DEGRADED, True)
    assert part(health, "worker") == Part("worker", State.STOPPED, "it does not run")


def test_others_add_what_they_have_to_tell(broker: FlakyBroker, store: FlakyStore) -> None:
    worker = Worker(agency(), store=store, broker=broker)

    worker.parts.append(lambda: [Part("breaker bank", State.DEGRADED, "open")])

    assert "breaker bank: open" in worker.health().reasons


def test_a_thread_that_turns_no_more_is_dead_with_the_handler_it_is_in() -> None:
    clock = ManualClock()
    pulse = Pulse("thread 0", clock)
    before = pulse.part(None)
    pulse.beat()

    seen = []
    for seconds in (1.0, SLOW, STALLED):
        clock.advance(seconds)
        seen.append(pulse.part("handler pay for workflow w1"))

    assert before == Part("thread 0", State.DEGRADED, "has not turned yet")
    assert [p.state for p in seen] == [State.READY, State.DEGRADED, State.DEAD]
    assert seen[1].text == "has not turned for 31 s, in handler pay for workflow w1"


def test_the_handler_that_keeps_a_thread_is_named(broker: FlakyBroker, store: FlakyStore) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def dawdle() -> None:
        entered.set()
        go_on.wait(20)

    hotels = fleet(Script(meanwhile=dawdle), external=True)[1]
    travel = fleet(Script(), external=True)[0]
    books = MemoryStore()
    worker = Worker(hotels, store=store, broker=broker)
    with Worker(travel, store=books, broker=broker).running(), worker.running():
        until(lambda: len(worker.standing().lanes) == 2, what="the lanes")
        with store.transaction() as tx:
            tx.execute("CREATE TABLE effects (workflow TEXT, step TEXT, act TEXT, key TEXT)")
        with books.transaction() as tx:
            travel.start(TripBooked(trip="rome"), tx)
        until(entered.is_set, what="the handler")
        [loop] = worker._loops
        doing = loop.processor.doing
        go_on.set()
        until(lambda: loop.processor.doing is None, what="the end of the handler")

    assert doing is not None
    assert "call_hotel" in doing
    assert "calls the world for 1 workflow" in doing


def test_rows_that_nobody_publishes_degrade_after_a_while(store: FlakyStore) -> None:
    clock = ManualClock()
    starter = agency(clock)
    store.claim("travel", 0, 2)
    with store.transaction() as tx:
        starter.start(TripBooked(trip="rome"), tx, workflow_id="w1")
    watch = Watch(starter, store, None)

    watch.look()
    young = watch.parts()
    clock.advance(UNPUBLISHED_PATIENCE.total_seconds() + 1)
    old = watch.parts()

    assert all(part.state is State.READY for part in young)
    [outbox] = [part for part in old if part.name == "outbox"]
    assert outbox.state is State.DEGRADED
    assert outbox.text.startswith("1 event waits to be published, the oldest for 31 s (of lane ")


def test_what_was_away_is_told_with_the_time_since_when_and_until_it_answers(store: FlakyStore) -> None:
    clock = ManualClock()
    watch = Watch(agency(clock), store, None)
    store.away = True
    watch.look()
    began = clock.now()
    clock.advance(60)
    watch.look()
    away = watch.parts()[0]
    store.away = False
    watch.look()

    assert away == Part("store", State.DEGRADED, f"away since {began:%F %T} UTC: the database is away")
    assert watch.parts()[0] == Part("store", State.READY, "answered 0 s ago")
    assert timedelta(seconds=60) == clock.now() - began


def test_what_neither_answers_nor_refuses_is_named_while_it_is_asked() -> None:
    clock, told = ManualClock(), []

    class Frozen(MemoryStore):
        @contextmanager
        def unit(self, *, eager: bool = False) -> Iterator[MemoryUnit]:
            for seconds in (UNANSWERED, 5):
                clock.sleep(seconds)
                told.append([watch.parts()[0], watch.parts()[1]])
            with super().unit(eager=eager) as unit:
                yield unit

    watch = Watch(agency(clock), Frozen(), MemoryBroker(TOPICS, partitions=2))

    watch.look()

    assert [[part.state for part in parts] for parts in told] == [[State.READY] * 2, [State.READY, State.DEGRADED]]
    assert told[1][1] == Part("store", State.DEGRADED, "asked 20 s ago, and has neither answered nor refused")
    assert [part.state for part in watch.parts()] == [State.READY] * len(watch.parts())


def test_of_what_is_away_the_latest_reason_is_told_since_the_first(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    watch, began = Watch(agency(clock), None, MemoryBroker(TOPICS, partitions=2)), clock.now()
    watch.trouble("broker", "not allowed")
    clock.advance(60)
    watch.trouble("broker", "the password is wrong")

    [told] = [part for part in watch.parts() if part.name == "broker"]
    assert told == Part("broker", State.DEGRADED, f"away since {began:%F %T} UTC: the password is wrong")
    assert caplog.text.count("broker is away") == 1


def test_letters_given_up_are_let_go_after_their_time_by_a_worker_and_never_by_who_only_looks(store: FlakyStore) -> None:
    clock = ManualClock()
    kept = timedelta(days=30)
    letter = DeadLetter(
        place=Place("travel", TOPICS[0], 0, 7), key=None, value=None, headers=(), reason=Reason.HEADERS, error="none",
        recorded=clock.now(), state=LetterState.DISCARDED, changed=clock.now(),
    )  # fmt: skip
    with store.unit() as unit:
        unit.bury([letter])

    def letters_after(watch: Watch) -> list[DeadLetter]:
        watch.look()
        with store.unit() as unit:
            return unit.letters(LetterSearch(), 10)

    working, looking = Watch(agency(clock), store, None, keep_letters=kept), Watch(agency(clock), store, None)
    young = letters_after(working)
    clock.advance(kept.total_seconds() + 1)

    assert young == letters_after(looking) == [letter]
    assert letters_after(working) == []


def test_how_far_a_stopped_lane_is_behind_is_what_the_topics_hold_now(
    store: FlakyStore, broker: FlakyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryConsumer, "ends_seen", lambda self, partitions: {})  # of what is paused, fetches tell nothing
    garbage = Outbound("", TOPICS[0], 1, b"k", b"", ())

    with Worker(agency(), store=store, broker=broker).running() as worker:
        until(lambda: worker.standing().lag == {0: 0, 1: 0}, what="the lanes to be read from where they begin")
        broker.begins[Partition(TOPICS[0], 1)] = 1
        broker.append(garbage)
        until(lambda: worker.standing().lag.get(1) == 1, what="the first record behind")
        broker.append(garbage)
        until(lambda: worker.standing().lag.get(1) == 2, what="the second")
        reasons, stopped = worker.health().reasons, worker.standing().stopped

    assert [*stopped] == [1]
    assert [reason for reason in reasons if reason.startswith("lane 1: ") and "(2 records wait)" in reason]


def test_a_stopped_lane_degrades_and_kills_nobody() -> None:
    stopped = Part("lane 3", State.STOPPED, str(LaneStopped("travel", 3, "a record cannot be read")))
    health = Health("agency", "travel", (Part("worker", State.READY, ""), stopped))

    assert (health.state, health.alive, health.ready) == (State.DEGRADED, True, False)


@pytest.fixture
def waiting(broker: FlakyBroker, store: FlakyStore) -> Iterator[Worker]:
    """A worker whose broker is away."""
    broker.away = True
    with Worker(agency(), store=store, broker=broker).running() as worker:
        until(lambda: "nobody answers" in str(worker.health().reasons), what="health to say so")
        yield worker


def test_over_http_a_degraded_worker_is_alive_and_not_ready(waiting: Worker) -> None:
    with client(asgi(waiting)) as http:
        livez, readyz, head = http.get("/livez"), http.get("/any/mount/readyz"), http.head("/readyz")

    assert (livez.status_code, readyz.status_code, head.status_code) == (200, 503, 503)
    assert readyz.json()["state"] == "degraded"
    assert any("nobody answers" in reason for reason in readyz.json()["reasons"])
    assert readyz.headers["content-type"] == "application/json"
    assert head.content == b""
    assert int(head.headers["content-length"]) > 100


def test_over_http_a_dead_worker_is_not_alive(store: FlakyStore, broker: FlakyBroker) -> None:
    worker = Worker(agency(), store=store, broker=broker)
    worker.failure = RuntimeError("a bug")

    with client(asgi(worker)) as http:
        assert http.get("/livez").status_code == 503


def test_what_is_not_there_is_told(waiting: Worker) -> None:
    with client(asgi(waiting)) as http:
        assert http.get("/nothing").status_code == 404
        assert http.post("/livez").status_code == 405
        assert http.get("/health").status_code == 200


def test_a_port_of_its_own_answers_the_same(waiting: Worker) -> None:
    with served(waiting, "127.0.0.1:0") as url:
        livez, readyz, head = httpx.get(f"{url}/livez"), httpx.get(f"{url}/readyz"), httpx.head(f"{url}/readyz")

    assert (livez.status_code, readyz.status_code, head.status_code, head.content) == (200, 503, 503, b"")
    assert readyz.json()["reasons"]


@pytest.mark.parametrize("address", ["8080", "nowhere:port", "127.0.0.1:99999"])
def test_an_address_on_which_nobody_can_listen_is_refused(waiting: Worker, address: str) -> None:
    with pytest.raises(DefinitionError, match="health"), served(waiting, address):
        pass


def test_a_worker_has_let_go_of_its_store_when_it_ends() -> None:
    """Whoever ran it closes the store then, and a connection that is closed while it is asked can end the process."""
    asked, answer, using = threading.Event(), threading.Event(), threading.Event()

    class Slow(MemoryStore):
        @contextmanager
        def unit(self, *, eager: bool = False) -> Iterator[MemoryUnit]:
            using.set()
            asked.set()
            answer.wait(30)
            with super().unit(eager=eager) as unit:
                yield unit
            using.clear()

    watch, stopping = Watch(fleet(Script())[0], Slow(), None), threading.Event()
    thread = threading.Thread(target=watch.run, args=[stopping])
    thread.start()
    assert asked.wait(30)

    stopping.set()
    assert not watch.let_go(0.0)
    answer.set()

    assert watch.let_go(30)
    assert not using.is_set()
    thread.join(30)
    assert not thread.is_alive()


class Unjoined(FlakyBroker):
    """Says what topics there are, and goes away then."""

    def consumer(self, group: str, topics: Sequence[str], assignments: Assignments) -> MemoryConsumer:
        raise BrokerError("nobody answers", retriable=True)


def test_a_worker_that_is_to_end_while_it_waits_for_its_broker_ends_in_order(store: FlakyStore) -> None:
    worker = Worker(agency(), store=store, broker=Unjoined(TOPICS, partitions=2))

    with worker.running():
        until(lambda: says(worker.health(), "waiting for the broker: nobody answers"), what="health to say so")

    assert worker.failure is None


class Stepped(ManualClock):
    """Its time of day may be set back."""

    def step(self, span: timedelta) -> None:
        self._now += span


@pytest.mark.parametrize("hours", [-3, 3])
def test_since_when_a_server_has_answered_is_told_right_though_the_clock_was_stepped(
    hours: int, store: FlakyStore, broker: FlakyBroker
) -> None:
    clock = Stepped()
    watch = Watch(agency(clock), store, broker)
    watch.look()
    clock.advance(2)

    clock.step(timedelta(hours=hours))

    assert {one.text for one in watch.parts() if one.name in ("store", "broker")} == {"answered 2 s ago"}
