"""`saga trace`: one workflow told over all services, whatever became of it and whatever is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest

from saga import Saga, assembly
from saga.errors import BrokerError
from saga.replay import drawing
from saga.replay.contracts import Contracts
from saga.replay.following import Following
from saga.replay.source import TopicSource
from saga.replay.timeline import timeline
from saga.testing.harness import Harness
from saga.transport.port import Partition, Record
from tests.commands import Commands
from tests.histories import history, lived, made_again, records
from tests.travel import Script, TripBooked, harness
from tests.travel import saga as travel

TRAVEL = Contracts([travel()])


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    with lived() as running:
        monkeypatch.setattr(assembly, "broker", lambda settings: running.broker)
        yield running


def told(fleet: Harness, workflow: str) -> list[str]:
    """Without the times, which are all alike."""
    found = timeline(TRAVEL, history(records(fleet.broker), workflow))
    return [line[11:] for line in drawing.tree(found)]


def test_a_workflow_is_a_tree_of_causes(fleet: Harness) -> None:
    assert told(fleet, "poor") == [
        "agency   book done: TripBooked  (#1)",
        "airline  ├─ flight done: FlightBooked  (#1)",
        "bank     │  └─ pay failed: TripDeclined  (#1)",
        "airline  │     ├─ flight undone: FlightFreed  (#2)",
        "agency   │     │  └─ book undone: TripCancelled  (#2)",
        "hotels   │     └─ hotel undone: HotelFreed  (#2)",
        "hotels   └─ hotel done: HotelBooked  (#1)",
    ]


def test_the_head_says_how_it_ended_and_the_command_needs_the_contracts_alone(fleet: Harness, contracts: Commands) -> None:
    said = contracts("trace", "smooth", "--schemas", "contracts")

    assert said.code == 0, said.err
    assert said.out.startswith("travel v1 smooth: COMPLETED after 0.000 s, 5 facts of 4 services\n\n  ")


class Turning:
    """A broker that lets the fleet go on a turn between two looks."""

    def __init__(self, fleet: Harness) -> None:
        self.fleet = fleet

    def __getattr__(self, name: str) -> object:
        return getattr(self.fleet.broker, name)

    def spans(self, partitions: Sequence[Partition]) -> dict[Partition, range]:
        found = self.fleet.broker.spans(partitions)
        for name in self.fleet.loops:
            self.fleet.turn(name)
        return found


@pytest.mark.parametrize("as_json", [False, True])
def test_a_workflow_is_followed_as_its_records_come_to_its_end(
    monkeypatch: pytest.MonkeyPatch, contracts: Commands, as_json: bool
) -> None:
    monkeypatch.setattr("saga.cli.past.trace.PAUSE", 0.0)
    with harness(Script()) as fleet:
        monkeypatch.setattr(assembly, "broker", lambda settings: Turning(fleet))
        fleet.start(TripBooked(trip="other"), workflow_id="other")
        fleet.start(TripBooked(trip="rome"), workflow_id="rome")

        said = contracts("trace", "rome", "--follow", "--schemas", "contracts", *["--json"] * as_json)

    lines = said.out.splitlines()
    assert said.code == 0, said.err
    assert len(lines) == 5
    if as_json:
        told = [orjson.loads(line) for line in lines]
        assert (told[0]["words"], told[-1]["words"]) == ("book done: TripBooked", "confirm done: TripConfirmed")
        assert len({one["id"] for one in told}) == 5
    else:
        assert lines[0].endswith("agency  book done: TripBooked  (#1)")
        assert "rome: COMPLETED" in said.err


def test_a_topic_that_is_made_again_is_not_followed_as_if_it_were_the_same(fleet: Harness) -> None:
    source = TopicSource(fleet.broker, "travel")
    following = Following(source, source.lanes())
    assert [*following.look()]
    made_again(fleet.broker, "travel.events")

    with pytest.raises(BrokerError, match="a topic was deleted and made again while it was followed"):
        next(following.look())


def test_following_ends_at_ctrl_c_and_tells_how_far_the_workflow_has_come(
    fleet: Harness, contracts: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("saga.clock.SystemClock.sleep", interrupt)

    said = contracts("trace", "open", "--follow", "--schemas", "contracts")

    assert said.code == 0, said.err
    assert "open: IN_PROGRESS open for" in said.err


def test_who_is_awaited_and_until_when_is_asked_of_the_protocol(fleet: Harness) -> None:
    found = timeline(TRAVEL, history(records(fleet.broker), "open"))

    began = fleet.clock.now()
    assert [(one.participant, one.what, one.until) for one in found.awaited] == [
        ("airline", "the outcome of flight", began + timedelta(minutes=1))
    ]


def test_an_abort_and_its_refusal_are_told_in_words() -> None:
    with harness(Script()) as fleet:
        fleet.start(TripBooked(trip="rome"), workflow_id="rome")
        for name in ("agency", "hotels", "airline", "bank", "bank"):
            fleet.turn(name)
        fleet.abort("rome", by="hotels", reason="a strike")
        fleet.settle()

        words = " / ".join(told(fleet, "rome"))

    assert "wish to unwind by hotels: a strike" in words
    assert "refused to unwind: pay is done, there is no way back" in words


def test_a_stuck_step_names_the_operator_that_is_awaited() -> None:
    with harness(Script(raising={("free_hotel", "rome"): 100}, failing={("pay", "rome")})) as fleet:
        fleet.start(TripBooked(trip="rome"), workflow_id="rome")
        fleet.settle()
        for _ in range(40):
            fleet.advance(3600)

        found = timeline(TRAVEL, history(records(fleet.broker), "rome"))

    assert ("hotels", "an operator, for step hotel") in [(one.participant, one.what) for one in found.awaited]
    assert any("hotel is stuck and waits for an operator: " in moment.words for moment in found.moments)


def test_a_gap_is_told_before_all_else(fleet: Harness, contracts: Commands) -> None:
    log = next(log for log in fleet.broker.logs.values() for r in log if r.key == b"smooth" and b"TripBooked" in headers(r))
    log.remove(next(r for r in log if r.key == b"smooth" and b"TripBooked" in headers(r)))

    said = contracts("trace", "smooth", "--schemas", "contracts")

    assert said.code == 0
    assert "  ! not whole: event #1 of agency is missing\n" in said.out
    assert "of an event that is missing" in said.out


def test_a_workflow_of_thousands_of_records_is_drawn_however_deep_its_causes_go(fleet: Harness) -> None:
    last = next(r for r in records(fleet.broker) if r.key == b"open")
    acts, cause = [], dict(last.headers)["ce_id"]
    for number in range(3000):
        act = {"ce_id": b"act %d" % number, "ce_causationid": cause, "ce_sequence": b"%d" % (10 + number), "ce_status": b"note"}
        acts.append(last._replace(offset=100 + number, headers=[*{**dict(last.headers), **act}.items()]))
        cause = act["ce_id"]

    found = drawing.tree(timeline(TRAVEL, history([*records(fleet.broker), *acts], "open")))

    assert len(found) == 3000 + sum(r.key == b"open" for r in records(fleet.broker))


def headers(record: object) -> bytes:
    return b" ".join(value or b"" for _, value in record.headers)  # type: ignore[attr-defined]


def confirm_otherwise(fleet: Harness, said: Mapping[str, bytes]) -> None:
    """The last record of `smooth` says this in its headers."""
    for log in fleet.broker.logs.values():
        for n, r in enumerate(log):
            if r.key == b"smooth" and b"TripConfirmed" in headers(r):
                log[n] = r._replace(headers=[*{**dict(r.headers), **said}.items()])


def test_an_event_that_no_contract_knows_is_told_and_so_is_the_rest(fleet: Harness, contracts: Commands) -> None:
    confirm_otherwise(fleet, {"ce_type": b"travel.Unknown"})

    said = contracts("trace", "smooth", "--schemas", "contracts")

    assert said.code == 0, said.err
    assert "travel.Unknown is no event of saga travel v1; expected one of its contracts" in said.out
    assert "pay done: TripPaid" in said.out


def test_a_status_and_a_record_of_a_later_library_are_shown(fleet: Harness, contracts: Commands) -> None:
    confirm_otherwise(fleet, {"ce_status": b"applauded", "ce_type": b"saga.Applauded"})

    said = contracts("trace", "smooth", "--schemas", "contracts")

    assert said.code == 0
    assert "confirm applauded: Applauded" in said.out


def test_a_sequence_diagram_has_an_arrow_to_everybody_who_must_hear(fleet: Harness, contracts: Commands) -> None:
    said = contracts("trace", "poor", "--schemas", "contracts", "--mermaid")

    lines = said.out.splitlines()
    assert lines[:2] == ["sequenceDiagram", "  participant agency as agency"]
    assert "  agency->>airline: book done: TripBooked" in lines
    assert "  hotels->>bank: hotel done: HotelBooked" in lines
    assert "  bank-->>agency: pay failed: TripDeclined" in lines


def test_a_record_of_nobody_has_a_name_in_the_sequence_diagram(fleet: Harness) -> None:
    stray = Record("travel.events", 0, 99, b"poor", b"", [("ce_subject", b"poor")])

    drawn = drawing.mermaid(timeline(TRAVEL, history([*records(fleet.broker), stray], "poor")))

    assert "  participant _ as unknown" in drawn.splitlines()


def test_participants_whose_names_differ_in_a_hyphen_are_two_in_the_sequence_diagram(fleet: Harness) -> None:
    strays = [
        Record("travel.events", 0, 99 + number, b"poor", b"", [("ce_subject", b"poor"), ("ce_source", name), ("ce_id", name)])
        for number, name in enumerate((b"front-desk", b"front_desk"))
    ]

    drawn = drawing.mermaid(timeline(TRAVEL, history([*records(fleet.broker), *strays], "poor")))

    assert len({line.split()[1] for line in drawn.splitlines() if " as front" in line}) == 2


def test_json_holds_every_moment_with_its_fields(fleet: Harness, contracts: Commands) -> None:
    said = contracts("trace", "poor", "--schemas", "contracts", "--json").json

    assert said["state"]["status"] == "compensated"
    assert said["moments"][0]["fields"] == {"trip": "poor"}
    assert said["holes"] == []


def test_an_unknown_workflow_is_not_found(fleet: Harness, contracts: Commands) -> None:
    said = contracts("trace", "nobody", "--schemas", "contracts")

    assert (said.code, said.out) == (1, "")
    assert "the topics of saga 'travel' hold nothing about workflow 'nobody'; check the id" in said.err


def test_what_contracts_call_sensitive_is_hidden_on_every_screen(fleet: Harness, contracts: Commands) -> None:
    booked = contracts.folder / "contracts" / "TripBooked.avsc"
    booked.write_text(booked.read_text().replace('"type":"string"', '"type":"string","sensitive":true'))
    tagged = Contracts([Saga.load(contracts.folder / "contracts")])
    found = history(records(fleet.broker), "smooth")
    for id_, entry in found.entries.items():
        if entry.type == "travel.TripBooked":
            payload = tagged.codec(1).encode(entry.type, {"trip": "smooth"})
            assert entry.message is not None
            written = entry.record._replace(value=payload)
            found.entries[id_] = replace(entry, record=written, message=entry.message._replace(value=payload))

    told = timeline(tagged, found)

    assert told.moments[0].type == "travel.TripBooked"
    assert told.moments[0].fields is not None
    assert "smooth" not in told.moments[0].fields.values()
    assert told.state is not None
    assert told.state.events["book"] == ("travel.TripBooked", {"trip": "***"})
