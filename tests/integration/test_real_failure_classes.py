"""Each class of failure, from its cause to the end of its workflow: on Kafka, PostgreSQL and a registry, and embedded.

`tests/unit/test_failure_classes.py` goes through the same table of `docs/failures.md` in one thread, with a clock that is
turned by hand; here are threads, servers and time. One fleet serves all cases of a ground; each case is a trip of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from saga import Overloaded, Participant, Retry, TerminalError
from saga.contracts.registry import Registry
from saga.contracts.topics import fact_topics
from saga.errors import RegistryUnavailable
from saga.participant import operator
from saga.protocol.facts import WorkflowStatus
from saga.store.dead_letter import LetterSearch
from saga.store.sqlite import SqliteStore
from saga.transport.port import Record
from tests.integration.crew import LANES, NAMES, Crew, embedded, on_servers
from tests.integration.garbage import write
from tests.travel import Away, Script, TripBooked, fleet
from tests.waiting import until

pytestmark = pytest.mark.slow

ATTEMPTS = 3
TOO_OFTEN = 10**6
MORE_THAN_ALLOWED = ATTEMPTS + 1
COMPLETED, COMPENSATED = {WorkflowStatus.COMPLETED}, {WorkflowStatus.COMPENSATED}
GARBAGE = b"\x00\x00\x00\x00"
FAR_BEYOND = b"\x00" + (2**31 - 2).to_bytes(4, "big")
BACKLOG = 50

Spoil = Callable[[bytes], bytes]


@dataclass(frozen=True, kw_only=True)
class Line:
    """What goes wrong with one trip, and how it ends; the hotel's schema says `"on_error": "fail"`, the flight's does not.

    `parked` are the steps that wait for an operator first, with the tries that they have spent; the operator then has them
    tried again, the cause being gone, or, where `spoilt` bytes stay what they are, gives the trip up. What may `still_come`
    to a registry is tried again where there is one.
    """

    end: set[WorkflowStatus]
    failing: str | None = None
    raising: dict[str, int] = field(default_factory=dict)
    error: Callable[[str], Exception] = RuntimeError
    spoilt: Spoil | None = None
    parked: dict[str, int] = field(default_factory=dict)
    still_come: bool = False


UNREADABLE = {"hotel": 1, "flight": 1}
TABLE = {
    "business": Line(end=COMPENSATED, failing="hotel"),
    "transient": Line(end=COMPLETED, raising={"hotel": ATTEMPTS - 1, "flight": ATTEMPTS - 1}),
    "spent to fail": Line(end=COMPENSATED, raising={"hotel": TOO_OFTEN}),
    "spent to be parked": Line(end=COMPLETED, raising={"flight": TOO_OFTEN}, parked={"flight": ATTEMPTS}),
    "permanent to fail": Line(end=COMPENSATED, raising={"hotel": TOO_OFTEN}, error=TerminalError),
    "permanent to be parked": Line(
        end=COMPLETED, raising={"flight": TOO_OFTEN}, error=TerminalError, parked={"flight": 1}
    ),
    "infrastructure": Line(end=COMPLETED, raising={"hotel": MORE_THAN_ALLOWED}, error=RegistryUnavailable),
    "a dependency": Line(end=COMPLETED, raising={"hotel": MORE_THAN_ALLOWED}, error=Away),
    "poison": Line(end=COMPENSATED, spoilt=lambda payload: GARBAGE, parked=UNREADABLE),
    "an unknown schema": Line(
        end=COMPENSATED, spoilt=lambda payload: FAR_BEYOND + payload[5:], parked=UNREADABLE, still_come=True
    ),
}  # fmt: skip
OWNERS = {"hotel": "hotels", "flight": "airline"}


@dataclass
class Ground:
    """A crew at work, and the script that it follows."""

    crew: Crew
    script: Script
    registry: Registry | None


@pytest.fixture(scope="module", params=["servers", "embedded"])
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    script = Script(error=lambda text: TABLE[text.rpartition(" with ")[2]].error(text))
    made, registry = participants(script), None
    folder = tmp_path_factory.mktemp("classes")
    with _laid(request, folder, made) as crew:
        if request.param == "servers":
            registry = registered(made[0], request.getfixturevalue("registry"))
        crew.begin(*NAMES, registry=registry)
        yield Ground(crew, script, registry)
        assert not any(worker.standing().stopped for worker in crew.workers.values())


@contextmanager
def _laid(request: pytest.FixtureRequest, folder: Path, made: list[Participant]) -> Iterator[Crew]:
    if request.param == "embedded":
        with embedded(folder, made) as crew:
            yield crew
        return
    with on_servers(request.getfixturevalue("kafka"), request.getfixturevalue("postgres"), made) as crew:
        yield crew


def participants(script: Script) -> list[Participant]:
    return fleet(
        script,
        name=f"classes-{uuid4().hex[:8]}",
        on_error="fail",
        retry=Retry(attempts=ATTEMPTS, quick=1, first=0.1, longest=0.3),
        desk={"pause": 0.3, "minimum_calls": 3},
        max_backlog=BACKLOG,
    )


def registered(agency: Participant, url: str) -> Registry:
    """A registry that knows all schemas of the saga."""
    known = Registry(url)
    for event in agency.saga.published:
        known.register(agency.saga.subject(event), agency.saga.contract(event))
    return known


@pytest.mark.parametrize("name", TABLE)
def test_a_failure_of_each_class_ends_as_the_table_says(ground: Ground, name: str) -> None:
    line, crew, script = TABLE[name], ground.crew, ground.script
    script.raising.update({(step, name): count for step, count in line.raising.items()})
    script.failing.update({(line.failing, name)} if line.failing else ())

    start(crew, name, line.spoilt)
    for step, spent in line.parked.items():
        attempts = ATTEMPTS if line.still_come and ground.registry else spent
        until(partial(waits_for_an_operator, crew, name, step, attempts), what=f"{step} to be parked")
    if line.parked:
        script.raising.clear()
        act(crew, name, line)
    crew.await_end(name)

    assert crew.ends(name) == line.end
    expected = [("confirm", "action"), ("flight", "action"), ("hotel", "action"), ("pay", "action")]
    assert line.end != COMPLETED or crew.effects(name) == expected


def test_a_record_of_no_workflow_is_kept_as_a_dead_letter_and_its_lane_goes_on(ground: Ground) -> None:
    crew, topic = ground.crew, fact_topics(ground.crew.saga.name)[0]
    write(crew.broker.settings, [Record(topic, lane, 0, b"nonsense", b"\xff\xfe", ()) for lane in range(LANES)])
    behind = [f"behind {number}" for number in range(3 * LANES)]

    crew.start(*behind)
    crew.await_end(*behind)

    assert {trip: crew.ends(trip) for trip in behind} == dict.fromkeys(behind, COMPLETED)
    for store in crew.stores.values():
        with store.unit() as unit:
            found = unit.letters(LetterSearch(), 100)
        assert sorted((letter.lane, letter.value) for letter in found) == [(lane, b"\xff\xfe") for lane in range(LANES)]


def test_while_too_much_waits_to_be_published_start_refuses_and_what_was_accepted_is_done_later(ground: Ground) -> None:
    crew, accepted = ground.crew, list[str]()
    crew.end("agency")

    with pytest.raises(Overloaded, match=f"more than {BACKLOG} events"):
        accept(crew, accepted)
    crew.begin("agency")
    crew.await_end(*accepted)

    assert len(accepted) > BACKLOG
    assert {trip: crew.ends(trip) for trip in accepted} == dict.fromkeys(accepted, COMPLETED)


def accept(crew: Crew, accepted: list[str]) -> None:
    """Start one trip after the other until that is refused."""
    while True:
        trip = f"overload {len(accepted)}"
        crew.start(trip)
        accepted.append(trip)


def start(crew: Crew, trip: str, spoilt: Spoil | None) -> None:
    """Start the trip, its first event unreadable on its way if so."""
    store = crew.stores["agency"]
    mark = "?" if isinstance(store, SqliteStore) else "%s"
    with store.transaction() as tx:
        crew.participants["agency"].start(TripBooked(trip=trip), tx, workflow_id=trip)
        if spoilt is not None:
            [(payload,)] = tx.execute(f"SELECT payload FROM saga_outbox WHERE aggregateid = {mark}", (trip,)).fetchall()
            tx.execute(f"UPDATE saga_outbox SET payload = {mark} WHERE aggregateid = {mark}", (spoilt(bytes(payload)), trip))


def waits_for_an_operator(crew: Crew, trip: str, step: str, attempts: int) -> bool:
    fence = crew.fence(OWNERS[step], trip, step)
    return fence is not None and operator.is_parked(fence) and (fence.attempt, fence.due) == (attempts, None)


def act(crew: Crew, trip: str, line: Line) -> None:
    """What an operator does about it."""
    if line.spoilt is not None:
        with crew.stores["agency"].transaction() as tx:
            crew.participants["agency"].abort(trip, tx, reason="nobody can read it", by="alice")
        return
    for step in line.parked:
        with crew.stores[OWNERS[step]].transaction() as tx:
            crew.participants[OWNERS[step]].retry(trip, tx, by="alice")
