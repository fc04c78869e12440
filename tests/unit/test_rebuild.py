"""What a rebuilt store is a function of, and what is left to the worker that goes on with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from saga.contracts.message import event_id, idempotency_key
from saga.contracts.topics import lane_of, saga_topics
from saga.errors import DefinitionError, LaneStopped, PartitionCountChanged, SagaError, TopicRecreated
from saga.failpoints import Failpoint, FailpointRaised, armed
from saga.participant.participant import Participant
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.replay.rebuild import Rebuild
from saga.replay.restoring import TAKEN_UP
from saga.store.dead_letter import LetterSearch
from saga.store.memory import MemoryStore
from saga.testing.harness import Harness
from saga.transport.memory import MemoryBroker
from saga.transport.port import Partition, Record
from tests.histories import lived, made_again
from tests.rebuilding import begun, gone_on, put_in_place, rebuilt, rows, stored, unlike
from tests.travel import CREATE_EFFECTS, FlightBooked, FlightFull, HotelBooked, Script, TripBooked, harness, saga
from tests.travel import fleet as participants

TRIP = "trip"


def dies_before_publishing(fleet: Harness, name: str) -> None:
    """The participant commits what it does about the trip, and its process and database are gone before anybody hears of it."""
    with armed(f"{Failpoint.UNIT_COMMITTED}:raise:1"), suppress(FailpointRaised):
        while True:
            fleet.turn(name)


def started(fleet: Harness) -> None:
    fleet.start(TripBooked(trip=TRIP), workflow_id=TRIP)
    while fleet.turn("agency"):
        pass


def ends(fleet: Harness) -> set[WorkflowStatus]:
    found = [fleet.workflow(name, TRIP) for name in fleet.stores]
    return {workflow.status for workflow in found if workflow and workflow.closed}


def all_ended(fleet: Harness) -> bool:
    return all((workflow := fleet.workflow(name, TRIP)) and workflow.closed for name in fleet.stores)


def test_what_was_committed_and_not_published_is_done_again_at_once_and_no_time_need_pass() -> None:
    with harness(Script()) as fleet:
        started(fleet)
        dies_before_publishing(fleet, "hotels")
        assert rows(fleet.stores["hotels"]) != []

        put_in_place(fleet, "hotels", rebuilt(fleet, "hotels"))
        assert rows(fleet.stores["hotels"]) == []
        fleet.settle()

        assert ends(fleet) == {WorkflowStatus.COMPLETED}
        assert all_ended(fleet)
        assert rows(fleet.stores["hotels"]) == [(TRIP, "hotel", "action", "")]


def test_the_world_is_asked_again_with_the_same_key_even_where_an_abort_has_come() -> None:
    script = Script()
    with harness(script, external=True) as fleet:
        started(fleet)
        dies_before_publishing(fleet, "hotels")  # the intent
        fleet.crash("hotels")
        with armed(f"{Failpoint.EXTERNAL_RETURNED}:raise:1"), suppress(FailpointRaised):
            fleet.turn("hotels")
            fleet.turn("hotels")
        key = idempotency_key("travel", TRIP, "hotel", "action")
        assert script.calls == {key: 1}
        fleet.abort(TRIP, by="agency")
        for name in ("agency", "bank"):  # the pivot hears of it first
            while fleet.turn(name):
                pass

        put_in_place(fleet, "hotels", rebuilt(fleet, "hotels"))
        fleet.settle()

        assert script.calls[key] == 2
        assert fleet.steps(TRIP)["hotel"] is StepStatus.COMPENSATED
        assert ends(fleet) == {WorkflowStatus.COMPENSATED}


def test_an_undoing_that_nobody_heard_of_is_done_again_at_once() -> None:
    script = Script(failing={("pay", TRIP)})
    with harness(script) as fleet:
        started(fleet)
        for name in ("hotels", "airline", "bank"):
            while fleet.turn(name):
                pass
        dies_before_publishing(fleet, "hotels")

        put_in_place(fleet, "hotels", rebuilt(fleet, "hotels"))
        fleet.settle()

        assert ends(fleet) == {WorkflowStatus.COMPENSATED}
        assert all_ended(fleet)


def test_a_refusal_that_was_not_published_is_stated_by_the_worker() -> None:
    with harness(Script()) as fleet:
        fleet.start(TripBooked(trip=TRIP), workflow_id=TRIP)
        for name in ("agency", "hotels", "airline", "bank"):
            while fleet.turn(name):
                pass
        fleet.abort(TRIP, by="airline")
        while fleet.turn("airline"):
            pass
        dies_before_publishing(fleet, "bank")

        put_in_place(fleet, "bank", rebuilt(fleet, "bank"))
        fleet.settle()

        refused = [r for log in fleet.facts() for r in log if ("ce_status", b"refused") in r.headers]
        assert len(refused) == 1
        assert ends(fleet) == {WorkflowStatus.COMPLETED}


def test_what_is_left_to_do_waits_where_a_person_can_see_it() -> None:
    with harness(Script()) as fleet:
        started(fleet)
        dies_before_publishing(fleet, "hotels")

        [found] = rebuilt(fleet, "hotels").page("travel", "", 10)

        fence = found.fences["hotel"]
        assert (fence.status, fence.error, fence.due) == (StepStatus.IDLE, TAKEN_UP, fleet.clock.now())
        assert [received.state for received in found.inbox.values()] == ["recorded"]


def test_timers_are_those_of_the_facts() -> None:
    with harness(Script(waiting={TRIP})) as fleet:
        began = fleet.clock.now()
        fleet.start(TripBooked(trip=TRIP), workflow_id=TRIP)
        fleet.settle()
        fleet.clock.advance(30)

        [found] = rebuilt(fleet, "airline").page("travel", "", 10)

        assert found.deadline == began + timedelta(minutes=10)
        assert found.fences["flight"].expires == began + timedelta(minutes=1)


def test_sequence_numbers_go_on_after_the_highest_that_was_published() -> None:
    with lived() as fleet:
        for name in fleet.stores:
            put_in_place(fleet, name, rebuilt(fleet, name))
        fleet.abort("open", by="agency")
        fleet.settle()

        numbers: dict[tuple[bytes, bytes], list[int]] = {}
        for record in (record for log in fleet.facts() for record in log):
            raw = dict(record.headers)
            numbers.setdefault((raw["ce_subject"] or b"", raw["ce_source"] or b""), []).append(int(raw["ce_sequence"] or 0))
        assert all(sorted(found) == [*range(1, len(found) + 1)] for found in numbers.values())
        assert not fleet.stopped()


def test_a_worker_starts_on_what_was_rebuilt_and_stops_where_it_was_not_rebuilt_to_the_end() -> None:
    with harness(Script()) as fleet:
        early = begun(fleet, "hotels")
        early.catch_up()
        fleet.start(TripBooked(trip=TRIP), workflow_id=TRIP)
        fleet.settle()

        put_in_place(fleet, "hotels", stored(early))
        fleet.settle()
        assert "saga rebuild" in str(fleet.stopped()["hotels"][0])

        put_in_place(fleet, "hotels", rebuilt(fleet, "hotels"))
        fleet.settle()
        assert not fleet.stopped()


def test_what_was_stated_behind_its_end_is_not_done_again_although_kafka_was_told_nothing_of_it() -> None:
    with harness(Script(), partitions=1) as fleet:
        fleet.start(TripBooked(trip="before"), workflow_id="before")
        fleet.settle()
        store, told = rebuilt(fleet, "bank"), dict(fleet.broker.offsets["travel.bank"])
        fleet.start(TripBooked(trip=TRIP), workflow_id=TRIP)
        fleet.settle()
        fleet.broker.offsets["travel.bank"] = told  # its process was killed before it told more

        put_in_place(fleet, "bank", store)
        fleet.settle()

        assert "holds fact 1 of 'bank' about workflow trip" in str(fleet.stopped()["bank"][0])
        assert [row[0] for row in rows(store)] == ["before"]


def test_what_went_on_meanwhile_is_followed() -> None:
    with harness(Script()) as fleet:
        following = begun(fleet, "bank")
        following.catch_up()
        fleet.start(TripBooked(trip=TRIP), workflow_id=TRIP)
        fleet.settle()
        assert following.left() > 0

        following.catch_up()

        assert following.left() == 0
        assert following.finish() == {}
        assert unlike(fleet.stores["bank"], stored(following)) == []


class Marked:
    """A broker whose partitions end with a marker: an offset at which no record comes."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker, self.partitions, self.read, self.ids = broker, broker.partitions, broker.read, broker.ids

    def spans(self, partitions: Sequence[Partition]) -> dict[Partition, range]:
        return {where: range(span.start, span.stop + 1) for where, span in self.broker.spans(partitions).items()}


def test_nothing_is_left_to_be_read_where_partitions_end_with_the_marker_of_a_foreign_transaction() -> None:
    with lived() as fleet:
        rebuild = begun(fleet, "bank")
        rebuild.broker = Marked(fleet.broker)
        records = sum(map(len, fleet.facts()))
        assert rebuild.left() == records + 2 * rebuild.count
        rebuild.catch_up(lambda: True)
        assert rebuild.left() == records + 2 * rebuild.count
        rebuild.catch_up()
        assert rebuild.left() == 0

        fleet.start(TripBooked(trip=TRIP), workflow_id=TRIP)
        fleet.turn("agency")

        assert rebuild.left() == 1


def test_a_topic_that_was_made_again_is_not_taken_for_the_one_that_was_read() -> None:
    with lived() as fleet:
        following = begun(fleet, "bank")
        following.catch_up()
        made_again(fleet.broker, "travel.events")

        with pytest.raises(TopicRecreated, match=r"travel.events was deleted and made again.*Begin with an empty database"):
            following.catch_up()
        with pytest.raises(TopicRecreated, match=r"travel.events was deleted and made again"):
            gone_on(fleet, "bank", following).catch_up()
        put_in_place(fleet, "bank", stored(following))
        fleet.settle()
        assert "travel.events was deleted and made again" in str(fleet.stopped()["bank"])


def test_topics_that_were_given_more_partitions_make_no_empty_database_that_is_up_to_date() -> None:
    with lived() as fleet:
        following = begun(fleet, "hotels")
        fleet.broker.add(saga_topics("travel"), 3)

        with pytest.raises(PartitionCountChanged, match="have 3 partitions, but this store recorded 2"):
            following.catch_up()
        with pytest.raises(DefinitionError, match=r"first 4 workflows on travel\.events, 4 are not in the partition, of 3"):
            begun(fleet, "hotels")
        assert rows(rebuilt(fleet, "hotels", partial=True)) == []


def test_records_that_are_deleted_before_they_were_read_are_missed_and_it_is_said_what_to_do() -> None:
    with lived() as fleet:
        killed = begun(fleet, "bank")
        killed.catch_up()
        for number in range(20):
            fleet.start(TripBooked(trip=f"new {number}"), workflow_id=f"new {number}")
        fleet.settle()
        for partition, log in fleet.broker.logs.items():
            fleet.broker.begins[partition] = len(log)

        with pytest.raises(LaneStopped, match=r"what was still to be read is gone. Begin with an empty database, and"):
            gone_on(fleet, "bank", killed).catch_up()


def test_what_is_deleted_before_its_lane_is_begun_is_not_acknowledged_by_the_worker_that_goes_on() -> None:
    with lived() as fleet:
        rebuild = begun(fleet, "bank", partial=True)
        where = next(one for one, log in fleet.broker.logs.items() if one.topic == "travel.events" and len(log) > 3)
        fleet.broker.begins[where] = 2

        rebuild.catch_up()

        [lane] = [lane for lane in stored(rebuild).lanes() if lane.number == where.number]
        assert lane.gaps == {"travel.events": [(0, 2)]}


def test_a_database_on_which_a_worker_lives_is_not_touched_again() -> None:
    with lived() as fleet:
        first = begun(fleet, "bank")
        first.catch_up()
        put_in_place(fleet, "bank", stored(first))
        fleet.settle()

        with pytest.raises(DefinitionError, match="a worker lives on it"):
            gone_on(fleet, "bank", first)


def test_a_rebuild_that_is_killed_while_it_claims_a_lane_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    with lived() as fleet:
        expected = rebuilt(fleet, "bank")
        killed = Rebuild(fleet.participants["bank"], MemoryStore(fleet.clock), fleet.broker, clock=fleet.clock)
        killed.prepare([CREATE_EFFECTS])
        for where, what in (killed.shadow, "claimed"), (killed.store, "claim"):
            with monkeypatch.context() as patched:
                patched.setattr(where, what, dies)
                with pytest.raises(KeyboardInterrupt):
                    killed.start()

        second = gone_on(fleet, "bank", killed)
        second.catch_up()

        assert second.finish() == {}
        assert unlike(expected, stored(second)) == []
        assert rows(expected) == rows(stored(second))


def test_a_database_that_a_worker_claimed_is_refused_each_time_and_not_claimed_in_turn() -> None:
    with lived() as fleet:
        first = begun(fleet, "bank")
        first.catch_up()
        worker = [first.store.claim("travel", number, first.count, "bank") for number in first.numbers]

        for _ in range(2):
            with pytest.raises(DefinitionError, match="a worker lives on it"):
                gone_on(fleet, "bank", first)

        assert [lane.epoch for lane in worker] == [lane.epoch for lane in stored(first).lanes()]


def dies(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_rebuild_is_gone_on_with_as_it_was_begun() -> None:
    with lived() as fleet:
        first = begun(fleet, "bank", evolve=False)

        with pytest.raises(DefinitionError, match="begun with tables 'engine', and is now asked for with 'all'"):
            gone_on(fleet, "bank", first)


def test_business_tables_are_not_begun_where_something_is_not_known() -> None:
    with lived() as fleet:
        silent = Participant("hotels", saga())
        silent.unchanged_by(HotelBooked)

        with pytest.raises(DefinitionError, match=r"what travel\.HotelFull, travel\.HotelFreed left"):
            Rebuild(silent, MemoryStore(fleet.clock), fleet.broker)


def test_the_engines_own_tables_are_made_without_any_function() -> None:
    with lived() as fleet:
        again = rebuilt(fleet, "hotels", evolve=False)

        assert unlike(fleet.stores["hotels"], again) == []
        assert rows(again) == []


def without(broker: MemoryBroker, is_gone: Callable[[dict[str, bytes | None]], bool]) -> MemoryBroker:
    """The topics without some records."""
    left = MemoryBroker()
    left._counts, left.logs = broker._counts, {}
    for partition, log in broker.logs.items():
        kept = [r for r in log if not is_gone(dict(r.headers))]
        left.logs[partition] = [r._replace(offset=offset) for offset, r in enumerate(kept)]
    return left


def of(fleet: Harness, name: str, broker: MemoryBroker, **options: Any) -> Rebuild:
    rebuild = Rebuild(fleet.participants[name], MemoryStore(fleet.clock), broker, clock=fleet.clock, evolve=False, **options)
    rebuild.prepare()
    rebuild.start()
    rebuild.catch_up()
    return rebuild


def _is_from(raw: dict[str, bytes | None], workflow: bytes, source: bytes, sequence: bytes) -> bool:
    return (raw.get("ce_subject"), raw.get("ce_source"), raw.get("ce_sequence")) == (workflow, source, sequence)


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ((b"poor", b"hotels", b"1"), "an earlier fact of hotels than its fact 2 is missing"),
        ((b"poor", b"airline", b"1"), "fact #1 of airline is missing"),
        ((b"smooth", b"agency", b"1"), "step hotel is done, but TripBooked, which triggers it, is missing"),
    ],
    ids=["own", "foreign", "trigger"],
)
def test_a_workflow_that_is_not_whole_is_refused_or_marked(lost: tuple[bytes, bytes, bytes], told: str) -> None:
    with lived() as fleet:
        damaged, workflow = without(fleet.broker, lambda raw: _is_from(raw, *lost)), lost[0].decode()

        for until in (None, fleet.clock.now()):
            with pytest.raises(SagaError, match=f"workflow {workflow} is not whole: {told}"):
                of(fleet, "hotels", damaged, until=until).finish()

        partial = of(fleet, "hotels", damaged, partial=True)
        assert [*partial.finish()] == [workflow]
        [(_, found, _)] = stored(partial).find(workflow)
        assert found.error is not None
        assert told in found.error
        assert [w.id for w in stored(partial).page("travel", "", 10) if w.error] == [workflow]


@pytest.mark.parametrize("later", [(b"smooth", b"agency", b"1"), (b"poor", b"airline", b"1")], ids=["trigger", "number"])
def test_what_another_clock_dates_after_the_moment_is_not_missing_at_it(later: tuple[bytes, bytes, bytes]) -> None:
    with lived() as fleet:
        for log in fleet.broker.logs.values():
            log[:] = [record._replace(headers=dated(record, later, b"2030-01-01T00:00:09+00:00")) for record in log]

        rebuild = of(fleet, "hotels", fleet.broker, until=fleet.clock.now())

        assert rebuild.missing() != {}
        assert rebuild.finish() == {}


def dated(record: Record, fact: tuple[bytes, bytes, bytes], time: bytes) -> list[tuple[str, bytes | None]]:
    """The headers of a record, with this time if it is this fact."""
    raw = dict(record.headers)
    return [*{**raw, **({"ce_time": time} if _is_from(raw, *fact) else {})}.items()]


def changed_copy(fleet: Harness, type: bytes, **headers: bytes) -> None:
    """Append to the topic of done facts the first record of this type with other headers."""
    logs = [log for partition, log in fleet.broker.logs.items() if partition.topic == "travel.events"]
    log, first = next((log, one) for log in logs for one in log if dict(one.headers)["ce_type"] == type)
    log.append(first._replace(offset=len(log), headers=[*{**dict(first.headers), **headers}.items()]))


def test_numbers_of_facts_are_remembered_however_many_there_are() -> None:
    with lived() as fleet:
        changed_copy(fleet, b"travel.FlightBooked", ce_subject=b"open", ce_sequence=b"90000", ce_id=b"far")
        begun_and_killed = begun(fleet, "hotels")
        begun_and_killed.catch_up()
        lost = begun_and_killed.missing()["open"]

        assert "fact #1-89999 of airline are missing" in [hole.text for hole in lost]
        assert gone_on(fleet, "hotels", begun_and_killed).missing()["open"] == lost


def test_what_names_no_workflow_is_not_remembered_where_it_is_others_business() -> None:
    with lived() as fleet:
        changed_copy(fleet, b"travel.FlightBooked", ce_subject=b"a\0b", ce_sequence=b"7")

        rebuild = begun(fleet, "hotels")
        rebuild.catch_up()

        assert "a\0b" not in {workflow for lane in rebuild.lanes.values() for workflow in lane.seen}


def test_what_cannot_be_taken_in_becomes_a_dead_letter_again() -> None:
    with lived() as fleet:
        log = fleet.broker.logs[Partition("travel.events", 0)]
        key = dict(log[0].headers)["ce_subject"]
        strange = [(name, b"9" if name == "ce_sagaversion" else value) for name, value in log[0].headers]
        log += [Record("travel.events", 0, len(log), key, b"", strange), Record("travel.events", 0, len(log) + 1, b"w", b"")]
        fleet.settle()

        again = rebuilt(fleet, "hotels")

        assert unlike(fleet.stores["hotels"], again) == []
        with again.unit() as ours, fleet.stores["hotels"].unit() as theirs:
            places = [[one.place for one in unit.letters(LetterSearch(), 10)] for unit in (ours, theirs)]
        assert places[0] == places[1]
        assert len(places[0]) == 2


def test_a_release_that_does_not_know_what_its_participant_has_stated_rebuilds_nothing() -> None:
    script = Script()
    with harness(script, versions=(1, 2)) as fleet:
        fleet.start(TripBooked(trip="rome"), workflow_id="rome")
        fleet.settle()
        for participant in participants(script, versions=(1,)):
            fleet.deploy(participant)

        with pytest.raises(SagaError, match="of version 2, stated by 'airline', which knows 1 here"):
            rebuilt(fleet, "airline")
        assert rows(rebuilt(fleet, "airline", partial=True)) == []
        for participant in participants(script, versions=(1, 2)):
            fleet.deploy(participant)
        assert unlike(fleet.stores["airline"], rebuilt(fleet, "airline")) == []


def test_what_others_wrote_with_headers_in_an_order_of_their_own_is_read_all_the_same() -> None:
    with lived() as fleet:
        for log in fleet.broker.logs.values():
            log[:] = [record._replace(headers=[*record.headers][::-1]) for record in log]

        for name in fleet.stores:
            assert unlike(fleet.stores[name], rebuilt(fleet, name)) == []


def test_a_record_in_a_lane_that_is_not_its_workflows_becomes_a_dead_letter_again() -> None:
    with harness(Script(), partitions=2) as fleet:
        fleet.start(TripBooked(trip=TRIP), workflow_id=TRIP)
        fleet.settle()
        home = lane_of(TRIP, 2)
        log, other = (fleet.broker.logs[Partition("travel.events", number)] for number in (home, 1 - home))
        other.append(log[0]._replace(partition=1 - home, offset=len(other)))
        fleet.settle()

        again = rebuilt(fleet, "hotels")

        assert unlike(fleet.stores["hotels"], again) == []
        with again.unit() as ours, fleet.stores["hotels"].unit() as theirs:
            letters = [[(one.place, one.reason) for one in unit.letters(LetterSearch(), 10)] for unit in (ours, theirs)]
        assert letters[0] == letters[1] != []


@pytest.mark.parametrize("topic", ["travel.events", "travel.compensations"])
@pytest.mark.parametrize(("in_its_lane", "with_the_right_id"), [(True, False), (False, True), (False, False)])
def test_what_others_wrote_in_our_name_is_nothing_that_we_have_stated(
    topic: str, in_its_lane: bool, with_the_right_id: bool
) -> None:
    with harness(Script(failing={("pay", TRIP)}), partitions=2) as fleet:
        fleet.start(TripBooked(trip=TRIP), workflow_id=TRIP)
        fleet.settle()
        stated = (dict(record.headers) for number in (0, 1) for record in fleet.broker.logs[Partition(topic, number)])
        headers = next(one for one in stated if one["ce_source"] == b"agency") | {"ce_subject": b"forged", "ce_sequence": b"1"}
        step, status = ((headers[name] or b"").decode() for name in ("ce_step", "ce_status"))
        headers["ce_id"] = event_id("travel", "forged", step, status if with_the_right_id else "").encode()
        number = lane_of("forged", 2) if in_its_lane else 1 - lane_of("forged", 2)
        log = fleet.broker.logs[Partition(topic, number)]
        log.append(Record(topic, number, len(log), b"forged", b"garbage", [*headers.items()]))
        fleet.settle()

        assert unlike(fleet.stores["agency"], rebuilt(fleet, "agency")) == []


def test_facts_after_a_moment_are_left_out_and_no_worker_goes_on_with_that() -> None:
    with harness(Script(waiting={TRIP})) as fleet:
        fleet.start(TripBooked(trip=TRIP), workflow_id=TRIP)
        fleet.settle()
        moment = fleet.clock.now() + timedelta(seconds=1)
        fleet.clock.advance(10)
        with fleet.transaction("airline") as tx:
            fleet.participants["airline"].resolve(TRIP, "flight", FlightBooked(trip=TRIP), tx)
        fleet.settle()
        assert ends(fleet) == {WorkflowStatus.COMPLETED}

        then = rebuilt(fleet, "airline", until=moment)

        [found] = then.page("travel", "", 10)
        assert (found.closed, found.sequence, found.fences["flight"].status) == (None, 0, StepStatus.IDLE)
        put_in_place(fleet, "airline", then)
        fleet.settle()
        assert "saga rebuild" in str(fleet.stopped()["airline"][0])


def test_a_function_that_fails_is_named_with_its_record() -> None:
    with lived() as fleet:
        broken = Participant("bank", saga())

        with pytest.raises(DefinitionError, match="does not state FlightFull"):
            broken.unchanged_by(FlightFull)
        store = MemoryStore(fleet.clock)
        rebuild = Rebuild(fleet.participants["bank"], store, fleet.broker, clock=fleet.clock)
        rebuild.prepare()  # without its tables
        rebuild.start()
        with pytest.raises(LaneStopped, match=r"charged_again \(evolve of step 'pay'\) failed for workflow \w+, record travel"):
            rebuild.catch_up()


def test_until_a_moment_a_record_whose_time_has_no_zone_is_what_a_worker_makes_of_it() -> None:
    with lived() as fleet:
        log = next(log for partition, log in fleet.broker.logs.items() if log and partition.topic == "travel.events")
        headers = [(name, b"2030-01-01T00:00:00" if name == "ce_time" else value) for name, value in log[-1].headers]
        log.append(log[-1]._replace(offset=len(log), headers=headers))
        fleet.settle()

        store = rebuilt(fleet, "airline", until=datetime(2100, 1, 1, tzinfo=UTC))

        with store.unit() as ours, fleet.stores["airline"].unit() as theirs:
            letters = [[(one.place, one.reason) for one in unit.letters(LetterSearch(), 10)] for unit in (ours, theirs)]
        assert letters[0] == letters[1] != []


def test_until_is_a_moment_with_a_zone() -> None:
    with lived() as fleet:
        first = begun(fleet, "bank", until=datetime(2030, 1, 1, tzinfo=UTC))

        assert first.how["until"] == "2030-01-01T00:00:00+00:00"


def test_what_others_wait_to_have_acknowledged_is_acknowledged_by_the_rebuilt_one_and_nothing_is_sent_again() -> None:
    with harness(Script()) as fleet:
        started(fleet)
        dies_before_publishing(fleet, "hotels")
        before = [(r.topic, r.key, r.value) for log in fleet.facts() for r in log]

        put_in_place(fleet, "hotels", rebuilt(fleet, "hotels"))
        fleet.settle()
        fleet.advance(120)

        assert [row for store in fleet.stores.values() for row in store.outstanding(fleet.clock.now(), 10)] == []
        after = [(r.topic, r.key, r.value) for log in fleet.facts() for r in log]
        assert len(after) == len(set(after))
        assert set(before) <= set(after)
