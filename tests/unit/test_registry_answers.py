"""What the registry's answers, or their absence, mean to a service; on a registry of a few lines that fails as it is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from saga import DefinitionError, Participant, Saga, Transaction, Worker, assembly
from saga.contracts.acknowledged import RECORD, Acknowledged
from saga.contracts.avro import AvroCodec
from saga.contracts.registry import Registry
from saga.contracts.topics import saga_topics
from saga.engine.watch import Watch
from saga.errors import DecodeError, RegistryUnavailable, SchemaNotFound
from saga.evolution.plan import registered_version
from saga.participant.handler import Act
from saga.replay import recording
from saga.settings import Settings
from saga.store.memory import MemoryStore
from saga.testing.harness import Harness
from saga.testing.history import replay_histories
from saga.transport.memory import MemoryBroker
from saga.transport.port import Partition, Record
from tests.forked import forked
from tests.histories import history, records
from tests.sources import ROOT
from tests.travel import CREATE_EFFECTS, HotelBooked, Script, TripBooked, TripConfirmed
from tests.travel import fleet as participants
from tests.waiting import until

CHECKOUT = Saga.load(ROOT / "schemas" / "checkout")
EVENT = "checkout.OutOfStock"
SHORT = {"order_id": "o1", "sku": "pen", "wanted": 2, "available": 1}


class Fake:
    """Answers every look-up with `status`; what is asked is kept in `asked` with the `Authorization` it came with.

    `lines` are the ports from which it was asked; `instead` is said to everybody, whatever is asked.
    """

    def __init__(self) -> None:
        fake = self
        self.status, self.asked, self.schemas = 200, list[tuple[str, str | None]](), dict[int, Any]()
        self.code: int | None = None
        self.instead: Any = ...
        self.lines: list[int] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.answer()

            def answer(self) -> None:
                fake.asked.append((self.path, self.headers["Authorization"]))
                fake.lines.append(self.client_address[1])
                status, body = fake.answer(self.path)
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Not on the screen of a test."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, path: str) -> tuple[int, Any]:
        if self.instead is not ...:
            return 200, self.instead
        if self.status != 200:
            return self.status, {"error_code": self.code or self.status, "message": "as it was told"}
        if path.startswith("/schemas/ids/"):
            number = int(path.partition("?")[0].rpartition("/")[2])
            known = self.schemas.get(number)
            return (200, {"schema": json.dumps(known)}) if known else (404, {"error_code": 40403, "message": "none"})
        return 200, {"subject": "x", "id": 7, "version": 1, "schema": "{}"}


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()
    thread = Thread(target=fake.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        fake.server.shutdown()
        thread.join()
        fake.server.server_close()


def codec(fake: Fake, cache: Path | None = None) -> AvroCodec:
    return AvroCodec(CHECKOUT, Registry(fake.url, cache=cache, client={"max.retries": 0}))


def test_a_forked_process_hears_no_answers_that_are_for_the_one_before(fake: Fake) -> None:
    fake.server.RequestHandlerClass.protocol_version = "HTTP/1.1"  # type: ignore[attr-defined]
    registry = Registry(fake.url)
    registry.known(EVENT)

    with forked(lambda: registry.known(EVENT)):
        pass
    registry.known(EVENT)

    ours, of_the_fork, ours_again = fake.lines
    assert ours == ours_again != of_the_fork


def test_a_schema_that_the_registry_does_not_know_is_told_from_a_registry_that_fails(fake: Fake) -> None:
    fake.status, fake.code = 404, 40403
    with pytest.raises(SchemaNotFound, match=r"does not know .*; run: saga schemas register"):
        codec(fake).warm()

    fake.code = None
    for fake.status in (500, 502, 503):
        with pytest.raises(RegistryUnavailable, match="failed at") as failed:
            codec(fake).warm()
        assert "saga schemas register" not in str(failed.value)


@pytest.mark.parametrize("code", [None, 404, -1], ids=repr)
def test_who_is_no_registry_and_knows_nothing_is_not_believed_that_there_is_no_such_schema(
    fake: Fake, code: int | None
) -> None:
    """A gateway whose registry is away, or a path that is missing in its address: events were unreadable for good."""
    registered = codec(fake)
    registered.warm()
    fake.status, fake.code = 404, code

    with pytest.raises(RegistryUnavailable, match=r"no registry answers, but something else \(404\); .*correct SAGA_REGISTRY"):
        registered.decode(EVENT, b"\0\0\0\0\x08rest")


@pytest.mark.parametrize(
    "said", [None, [], "fine", {}, {"id": "x"}, {"id": [7]}, {"id": 2**40, "schema": 5}, {"id": -1}, {"id": True}], ids=repr
)
def test_who_answers_with_what_no_registry_says_is_waited_for_as_one_that_is_away(fake: Fake, said: Any) -> None:
    """Such as a gateway that says yes to everything: it ended the worker, or made bytes unreadable for good."""
    registered = codec(fake)
    registered.warm()
    payload = b"\0" + (8).to_bytes(4, "big") + registered.encode(EVENT, SHORT)[5:]
    fake.instead = said

    with pytest.raises(RegistryUnavailable, match=r"answered about checkout.* with what no registry says"):
        codec(fake).warm()
    with pytest.raises(RegistryUnavailable, match="answered about schema 8 with what no registry says"):
        registered.decode(EVENT, payload)

    fake.instead, fake.schemas[8] = ..., CHECKOUT.contract(EVENT)
    assert registered.decode(EVENT, payload) == SHORT


def test_a_folder_in_which_nothing_can_be_kept_costs_only_what_it_is_for(
    fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "full").write_text("a file where a folder is wanted")

    running = codec(fake, tmp_path / "full")
    running.warm()

    assert running.decode(EVENT, running.encode(EVENT, SHORT)) == SHORT
    assert "is not kept for when it is away" in caplog.text


def test_with_its_cache_a_service_starts_and_runs_while_the_registry_fails(fake: Fake, tmp_path: Path) -> None:
    codec(fake, tmp_path).warm()
    fake.status, asked = 500, len(fake.asked)

    running = codec(fake, tmp_path)
    running.warm()

    assert running.decode(EVENT, running.encode(EVENT, SHORT)) == SHORT
    assert len(fake.asked) == asked


def test_an_unknown_id_in_the_midst_of_work_is_unreadable_only_once_the_registry_says_so(fake: Fake) -> None:
    running = codec(fake)
    payload = b"\0" + (8).to_bytes(4, "big") + running.encode(EVENT, SHORT)[5:]

    fake.status = 503
    with pytest.raises(RegistryUnavailable):
        running.decode(EVENT, payload)
    fake.status = 200
    with pytest.raises(DecodeError, match="was written with schema 8, which the registry does not know"):
        running.decode(EVENT, payload)

    fake.schemas[8] = CHECKOUT.contract(EVENT)
    assert running.decode(EVENT, payload) == SHORT


def test_who_starts_workflows_without_the_registry_of_the_worker_is_refused_at_the_first() -> None:
    [worker, *_], [forgetful, *_] = participants(Script()), participants(Script())
    worker.use(Registry("http://127.0.0.1:1"))
    with Harness(worker) as fleet:
        store = fleet.stores["agency"]

        with store.transaction() as tx, pytest.raises(DefinitionError, match=r"found no registry .* participant\.use\("):
            forgetful.start(TripBooked(trip="rome"), tx, workflow_id="rome")

        assert store.find("rome") == []


def _adopt(participant: Participant, tx: Transaction) -> None:
    participant.adopt("legacy", "book", "TripBooked", {"trip": "rome"}, tx)


@pytest.mark.parametrize(
    "state",
    [
        lambda participant, tx: participant.abort("rome", tx, reason="the customer has called"),
        lambda participant, tx: participant.skip("rome", "confirm", tx, reason="never mind"),
        lambda participant, tx: participant.retry("rome", tx),
        lambda participant, tx: participant.resolve("rome", "confirm", TripConfirmed(trip="rome"), tx),
        _adopt,
    ],
    ids=["abort", "skip", "retry", "resolve", "adopt"],
)
def test_whoever_states_anything_else_without_it_is_refused_as_well(
    fake: Fake, state: Callable[[Participant, Transaction], None]
) -> None:
    [worker, *_], [forgetful, *_] = participants(Script()), participants(Script())
    worker.use(Registry(fake.url))
    with Harness(worker) as fleet:
        store = fleet.stores["agency"]
        with store.transaction() as tx:
            worker.start(TripBooked(trip="rome"), tx, workflow_id="rome")

        with store.transaction() as tx, pytest.raises(DefinitionError, match="Set the same SAGA_REGISTRY as the worker"):
            state(forgetful, tx)

        assert store.find("legacy") == []


def test_a_first_start_while_the_registry_fails_says_so_and_begins_nothing_in_the_callers_transaction(fake: Fake) -> None:
    [worker, *_], [starter, *_] = participants(Script()), participants(Script())
    for each in (worker, starter):
        each.use(Registry(fake.url, client={"max.retries": 0}))
    with Harness(worker) as fleet, fleet.stores["agency"].transaction() as tx:
        fake.status = 503
        with pytest.raises(RegistryUnavailable, match=r"failed at travel\.events-travel\.TripBooked"):
            starter.start(TripBooked(trip="rome"), tx, workflow_id="rome")
        fake.status = 200

        assert starter.start_many({"rome": TripBooked(trip="rome")}, tx) == ["rome"]


def test_once_warm_no_transaction_asks_the_registry_whatever_the_version(fake: Fake) -> None:
    [worker, *_], [starter, *_] = (participants(Script(), versions=(1, 2)) for _ in range(2))
    for each in (worker, starter):
        each.use(Registry(fake.url, client={"max.retries": 0}))
    starter.warm()
    asked, fake.status = len(fake.asked), 503
    with Harness(worker) as fleet:
        for version in (1, 2):
            with fleet.stores["agency"].transaction() as tx:
                starter.start(TripBooked(trip="rome"), tx, version=version)

        assert asked > 0
        assert len(fake.asked) == asked


def test_code_that_says_something_else_with_ids_of_the_registry_is_no_code_that_says_the_same(
    fake: Fake, tmp_path: Path
) -> None:
    def registered() -> list[Participant]:
        found = participants(Script())
        for one in found:
            one.use(Registry(fake.url, client={"max.retries": 0}))
        return found

    with Harness(*registered()) as running:
        for name in running.stores:
            with running.transaction(name) as tx:
                tx.execute(CREATE_EFFECTS)
        running.start(TripBooked(trip="rome"), workflow_id="rome")
        running.settle()
        one = history(records(running.broker), "rome")
    file, payloads = tmp_path / "histories.avro", {entry.id: entry.record.value or b"" for entry in one.entries.values()}
    recording.write(file, "travel", [(one, payloads, ())])
    hotels = next(one for one in registered() if one.name == "hotels")
    key, handler = next((key, one) for key, one in hotels.handlers.items() if one.step == "hotel" and one.act is Act.ACTION)
    hotels.handlers[key] = replace(handler, function=lambda event, tx: HotelBooked(trip=event.trip, room="13"))

    [difference] = replay_histories(hotels, file).differences

    assert difference.fields == (("room", "12", "13"),)


def _tour(version: int, *fields: str, confirmed_by: str = "guide", deadline: str = "PT1H") -> Saga:
    """Booked by the agency, confirmed by the guide; in each version a tour has other fields."""

    def step(name: str, event: str, **attributes: Any) -> dict[str, Any]:
        return {"name": name, "type": ["null", event], "default": None, "step": {**attributes, "emits": [event]}}

    own = {"name": "tour", "version": version, "owner": "agency", "deadline": deadline}
    texts = [{"name": name, "type": "string", "default": ""} for name in fields]
    booked = {"type": "record", "name": "Booked", "namespace": "tour", "fields": texts}
    steps = [
        step("book", "Booked", by="agency", compensated=None),
        step("confirm", "Confirmed", by=confirmed_by, on=["Booked"]),
    ]
    return Saga.of(
        booked,
        {**booked, "name": "Confirmed"},
        {**booked, "name": "Tour", "saga": own, "fields": steps},
    )


def test_a_worker_knows_the_schemas_of_all_its_versions_before_it_takes_a_lane(fake: Fake) -> None:
    agency = Participant("agency", [_tour(1, "place"), _tour(2, "place", "guests")])
    broker = MemoryBroker(saga_topics(agency.saga.name), partitions=1)
    worker = Worker(agency, store=MemoryStore(), broker=broker, registry=Registry(fake.url, client={"max.retries": 0}))
    with worker.running():
        until(lambda: worker.standing().lanes, what="the lane")
        asked, fake.status = len(fake.asked), 503

        agency.warm()

        assert asked > 0
        assert len(fake.asked) == asked


def _registering(fake: Fake, saga: Saga | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the registry answer that it has this saga, or none, and not the one that is asked for."""
    told, subject = fake.answer, "tour.Tour-v1"
    answers: dict[str, tuple[int, Any]] = {
        "/subjects": (200, [subject] if saga else []),
        f"/subjects/{subject}": (404, {"error_code": 40403, "message": "another"}),
    }
    if saga is not None:
        registered = {"subject": subject, "id": 9, "version": 1, "schema": json.dumps(saga.state[1])}
        answers[f"/subjects/{subject}/versions/latest"] = 200, registered
    monkeypatch.setattr(fake, "answer", lambda path: answers.get(path.partition("?")[0]) or told(path))


def _looked(fake: Fake, times: int = 1) -> Watch:
    watch = Watch(Participant("agency", _tour(1)), None, None, Registry(fake.url, client={"max.retries": 0}))
    for _ in range(times):
        watch.look()
    return watch


def test_a_worker_beside_other_steps_under_its_version_says_so_once_and_goes_on(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _registering(fake, _tour(1, confirmed_by="driver"), monkeypatch)

    watch = _looked(fake, times=3)

    [told] = [record.getMessage() for record in caplog.records if "other steps" in record.getMessage()]
    assert "step confirm: guide owns it now, and not driver" in told
    assert "see: saga schemas plan DIR" in told
    assert watch.away == {}


@pytest.mark.parametrize(
    "registered",
    [_tour(1), _tour(1, "guests"), _tour(1, deadline="PT30M"), None],
    ids=["the same", "another event", "an earlier deadline", "none"],
)
def test_what_may_differ_from_the_registry_is_not_told(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, registered: Saga | None
) -> None:
    _registering(fake, registered, monkeypatch)

    watch = _looked(fake)

    assert "other steps" not in caplog.text
    assert watch.away == {}


def test_a_registry_that_does_not_tell_its_sagas_is_not_away(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _registering(fake, None, monkeypatch)
    told = fake.answer
    refused = 403, {"error_code": 403, "message": "not for you"}
    monkeypatch.setattr(fake, "answer", lambda path: refused if path.partition("?")[0] == "/subjects" else told(path))

    watch = _looked(fake)

    assert watch.away == {}


def test_an_acknowledgment_whose_schema_cannot_be_asked_for_is_heard_once_the_registry_is_back(fake: Fake) -> None:
    agency = participants(Script())[0]
    agency.use(Registry(fake.url, client={"max.retries": 0}))
    with Harness(agency, partitions=1) as fleet:
        agency.warm()
        saga, partition = agency.saga, Partition("travel.acks", 0)
        said = Acknowledged("airline", "travel.events", 0, 1)
        payload = b"\0" + (8).to_bytes(4, "big") + agency.codec.encode(RECORD, said.fields())[5:]  # by a later release
        fake.status, fake.schemas[8] = 503, saga.contract(RECORD)
        fleet.broker.logs[partition].append(Record(*partition, 0, None, payload))
        fleet.turn("agency")
        known = fleet.loops["agency"].acks.known[0]
        before = known.missing(["airline"], "travel.events", 0)

        fake.status = 200
        fleet.advance(2)
        fleet.advance(2)

        assert before == ["airline"]
        assert fleet.loops["agency"].acks.known[0].missing(["airline"], "travel.events", 0) == []


def test_without_a_registry_on_either_side_nothing_is_refused() -> None:
    [worker, *_], [starter, *_] = participants(Script()), participants(Script())
    with Harness(worker) as fleet, fleet.stores["agency"].transaction() as tx:
        assert starter.start(TripBooked(trip="rome"), tx, workflow_id="rome") == "rome"


def test_nothing_registers_by_itself(fake: Fake) -> None:
    """The look-ups of a service that starts, encodes and decodes: none of them makes a version."""
    running = codec(fake)
    running.warm()
    running.decode(EVENT, running.encode(EVENT, SHORT))

    assert fake.asked
    assert [path for path, _ in fake.asked if path.partition("?")[0].endswith("/versions")] == []


def test_a_saga_is_found_among_the_schemas_of_others(fake: Fake) -> None:
    subject, schema = CHECKOUT.state
    schemas = {
        "a-v1": 'syntax = "proto3";', "b-v1": '"string"', "c-v1": '["null", "string"]', "d-v1": '{"saga": "checkout"}',
        subject: json.dumps(schema),
    }  # fmt: skip

    def answer(path: str) -> tuple[int, Any]:
        asked = path.removeprefix("/subjects").partition("?")[0].split("/")
        if len(asked) < 3:
            return 200, [*schemas]
        return 200, {"subject": asked[1], "id": 7, "version": 1, "schema": schemas[asked[1]]}

    fake.answer = answer  # type: ignore[method-assign]
    registry = Registry(fake.url, client={"max.retries": 0})

    assert Saga.from_registry(registry, "checkout", version=1).steps == CHECKOUT.steps
    assert registered_version(registry, "checkout") == 1
    with pytest.raises(DefinitionError, match="has no saga 'string'"):
        registered_version(registry, "string")


def test_lists_are_asked_for_anew_and_remembered_for_when_the_registry_is_away(fake: Fake, tmp_path: Path) -> None:
    fake.answer = lambda path: (fake.status, ["a-v1", "b"])  # type: ignore[method-assign]
    registry = Registry(fake.url, cache=tmp_path, client={"max.retries": 0})
    assert registry.subjects("-v1") == ["a-v1"]

    fake.answer = lambda path: (fake.status, ["a-v1", "c-v1"])  # type: ignore[method-assign]
    assert registry.subjects("-v1") == ["a-v1", "c-v1"]

    fake.answer = lambda path: (500, {"error_code": 500, "message": "away"})  # type: ignore[method-assign]
    assert Registry(fake.url, cache=tmp_path, client={"max.retries": 0}).subjects("-v1") == ["a-v1", "c-v1"]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [({"registry_user": "ada:s3cret"}, "Basic YWRhOnMzY3JldA=="), ({"registry_token": "t0ken"}, "Bearer t0ken"), ({}, None)],
)
def test_we_prove_who_we_are(
    fake: Fake, setting: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    registry = assembly.registry_needed(Settings.load(registry=fake.url, **setting))

    registry.id_of("subject", CHECKOUT.contract(EVENT))

    assert fake.asked[0][1] == expected


def test_who_is_not_let_in_is_told_what_to_set(fake: Fake) -> None:
    for fake.status in (401, 403):
        with pytest.raises(RegistryUnavailable, match=r"does not let us in .* set SAGA_REGISTRY_USER, SAGA_REGISTRY_TOKEN"):
            codec(fake).warm()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"registry_user": "ada:s3cret", "registry_token": "s3cret"}, "expected one of them"),
        ({"registry_user": "s3cret"}, "expected user:password"),
        ({"registry_key": "key.pem"}, "without SAGA_REGISTRY_CERTIFICATE"),
        ({"registry_ca": "missing.pem"}, r"SAGA_REGISTRY_CA: there is no file missing\.pem"),
        ({"registry": "http://ada:s3cret@host/"}, "set SAGA_REGISTRY_USER=user:password instead"),
    ],
)
def test_settings_that_make_no_sense_are_refused_without_showing_a_secret(
    settings: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DefinitionError, match=told) as refusal:
        assembly.registry(Settings.load(**{"registry": "http://host", **settings}))

    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("name", ["registry_user", "registry_token", "registry_ca", "registry_certificate"])
def test_who_one_is_at_a_registry_that_is_not_named_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.load(**{name: "ada:s3cret"})

    with pytest.raises(
        DefinitionError, match=f"found SAGA_{name.upper()} without SAGA_REGISTRY: .* Set SAGA_REGISTRY"
    ) as refusal:
        assembly.registry(settings)

    assert "s3cret" not in str(refusal.value)


def test_settings_never_show_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    shown = repr(Settings.load(registry_user="ada:s3cret")) + repr(Settings.load(registry_token="s3cret"))

    assert "s3cret" not in shown
