"""The observer: what it tells of a saga's workflows is what their databases hold, and it lives through whatever topics do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from html import unescape
from http import HTTPStatus

import orjson
import pytest

from saga.contracts.avro import AvroCodec
from saga.errors import BrokerError, RegistryUnavailable
from saga.observer.lifelines import short
from saga.observer.observer import Observer
from saga.observer.site import answer
from saga.observer.standing import Concern
from saga.protocol.facts import WorkflowStatus
from saga.replay.contracts import Contracts
from saga.replay.history import History
from saga.replay.source import Topics
from saga.replay.timeline import Timeline, timeline
from saga.store.archive import Search
from saga.testing.harness import Harness
from saga.transport.port import Partition, Record
from tests.histories import lived, made_again
from tests.travel import Script, TripBooked, harness
from tests.travel import saga as travel

HOUR = timedelta(hours=1)


@pytest.fixture
def fleet() -> Iterator[Harness]:
    with lived() as running:
        yield running


def observer(fleet: Harness, broker: Topics | None = None, **options: int) -> Observer:
    return Observer(Contracts([travel()]), broker or fleet.broker, fleet.clock, idle=HOUR, **options)


def looked(fleet: Harness, broker: Topics | None = None, **options: int) -> Observer:
    found = observer(fleet, broker, **options)
    found.look()
    return found


def held(fleet: Harness, participant: str = "agency") -> Counter[str]:
    """How many workflows stand how in a database; one that its initiator has accepted is in progress."""
    statuses = (one.workflow.status for one in fleet.stores[participant].search(Search(), 1000))
    return Counter((WorkflowStatus.IN_PROGRESS if each is WorkflowStatus.ACCEPTED else each).value for each in statuses)


def page(observer: Observer, path: str = "/") -> str:
    found = answer(observer, "GET", path)
    assert found.status is HTTPStatus.OK, found.body
    return found.body.decode()


def test_it_counts_what_the_databases_hold_and_says_who_is_awaited(fleet: Harness) -> None:
    told = looked(fleet).overview()

    assert told.counts == {"completed": 1, "compensated": 2, "in_progress": 1} == dict(held(fleet))
    assert [(one.participant, one.step, one.workflows) for one in told.waiting] == [("airline", "flight", 1)]
    assert told.alarms == ()


def test_it_goes_on_from_where_it_was_and_reads_nothing_twice(fleet: Harness) -> None:
    watching = looked(fleet)
    before = watching.overview().records

    fleet.start(TripBooked(trip="rome"), workflow_id="rome")
    fleet.settle()
    watching.look()
    watching.look()

    facts = sum(len(log) for partition, log in fleet.broker.logs.items() if not partition.topic.endswith(".acks"))
    assert before < watching.overview().records == facts
    assert watching.overview().counts["completed"] == 2


def test_a_step_whose_time_is_over_is_an_alarm_until_its_participant_has_seen_to_it(fleet: Harness) -> None:
    watching = looked(fleet)
    fleet.clock.advance(120)

    (alarm,) = watching.overview().alarms
    assert (alarm.workflow, alarm.concern, alarm.awaited) == ("open", Concern.OVERDUE, ("airline",))
    assert alarm.text == "the outcome of flight by airline is overdue"

    fleet.settle()
    watching.look()
    assert watching.overview().alarms == ()
    assert watching.overview().counts == dict(held(fleet))


@pytest.mark.parametrize(("dead", "step"), [("bank", "pay"), ("airline", "flight")])
def test_a_participant_that_does_not_run_is_an_alarm_when_its_workflows_unwind(dead: str, step: str) -> None:
    with harness(Script()) as fleet:
        fleet.start(TripBooked(trip="rome"), workflow_id="rome")
        alive = [name for name in fleet.stores if name != dead]
        settle(fleet, alive)
        fleet.clock.advance(601)
        settle(fleet, alive)
        watching = looked(fleet)
        assert watching.overview().alarms == ()
        fleet.clock.advance(31)

        (alarm,) = watching.overview().alarms

    assert (alarm.concern, alarm.awaited) == (Concern.OVERDUE, (dead,))
    assert alarm.text == f"word that {step} will not happen by {dead} is overdue"


def settle(fleet: Harness, alive: list[str]) -> None:
    while any([fleet.turn(name) for name in alive]):
        pass


def test_a_time_limit_that_has_just_passed_is_overdue_nowhere(fleet: Harness) -> None:
    watching = looked(fleet)
    fleet.clock.advance(61)

    assert [one.overdue for one in watching.overview().waiting] == [0]
    fleet.clock.advance(30)
    assert [one.overdue for one in watching.overview().waiting] == [1]


def test_a_compensation_that_is_stuck_needs_a_person_before_all_others() -> None:
    script = Script(raising={("free_hotel", "rome"): 100}, failing={("pay", "rome")}, waiting={"open"})
    with harness(script) as fleet:
        fleet.start(TripBooked(trip="rome"), workflow_id="rome")
        fleet.settle()
        for _ in range(40):
            fleet.advance(3600)
        fleet.start(TripBooked(trip="open"), workflow_id="open")
        fleet.settle()
        fleet.clock.advance(120)
        told = looked(fleet).overview()

    assert [(one.workflow, one.concern) for one in told.alarms] == [("rome", Concern.STUCK), ("open", Concern.OVERDUE)]
    assert told.alarms[0].awaited == ("hotels",)


def test_a_workflow_of_which_nothing_is_heard_is_an_alarm_however_long_its_own_limits_are() -> None:
    with harness(Script(raising={("hotel", "rome"): 100})) as fleet:
        fleet.start(TripBooked(trip="rome"), workflow_id="rome")
        fleet.settle()
        watching = Observer(Contracts([travel()]), fleet.broker, fleet.clock, idle=timedelta(minutes=5))
        watching.look()
        fleet.clock.advance(290)
        assert watching.overview().alarms == ()
        fleet.clock.advance(20)

        (alarm,) = watching.overview().alarms

    assert (alarm.workflow, alarm.concern, alarm.text) == ("rome", Concern.IDLE, "nothing has been heard of it")


def test_a_deadline_that_nobody_has_seen_to_is_its_keepers_business_too() -> None:
    with harness(Script(raising={("hotel", "rome"): 100})) as fleet:
        fleet.start(TripBooked(trip="rome"), workflow_id="rome")
        fleet.settle()
        watching = looked(fleet)
        fleet.clock.advance(640)

        (alarm,) = watching.overview().alarms
        fleet.settle()
        watching.look()

        assert watching.overview().alarms == ()
    assert (alarm.concern, alarm.awaited) == (Concern.OVERDUE, ("agency", "hotels"))
    assert alarm.text == "the outcome of hotel by hotels is overdue, and agency, who keeps the deadline, has not ended it"


def test_what_is_missing_is_an_alarm_but_not_where_records_have_aged_out(fleet: Harness) -> None:
    log = next(log for log in fleet.broker.logs.values() if any(r.key == b"smooth" and r.value for r in log))
    log.remove(next(record for record in log if record.key == b"smooth"))

    watching = looked(fleet)
    fleet.clock.advance(25)
    assert watching.overview().alarms == ()  # it may have been published a little later
    fleet.clock.advance(10)
    (alarm,) = watching.overview().alarms
    assert (alarm.workflow, alarm.concern) == ("smooth", Concern.TORN)
    assert "missing" in alarm.text

    partition = next(
        partition for partition, found in fleet.broker.logs.items() if found and partition.topic == "travel.events"
    )
    fleet.broker.begins[partition] = 1
    told = looked(fleet).overview()
    assert told.aged == (f"{partition.topic}/{partition.number} begins at offset 1",)
    assert told.alarms == ()


def test_what_cannot_be_understood_is_an_alarm_where_records_have_aged_out_too(fleet: Harness) -> None:
    partition, log = next((partition, log) for partition, log in fleet.broker.logs.items() if log)
    later = {**dict(log[0].headers), "ce_id": b"later", "ce_subject": b"later", "ce_sagaversion": b"2"}
    log.append(log[0]._replace(offset=len(log), key=b"later", headers=[*later.items()]))
    fleet.broker.begins[partition] = 1
    fleet.clock.advance(40)

    told = looked(fleet).overview()

    assert told.aged
    (alarm,) = told.alarms
    assert (alarm.workflow, alarm.text) == ("later", "it is of saga version 2; contracts are at hand of 1")


def test_of_those_that_ended_the_last_are_held_and_the_others_counted(fleet: Harness) -> None:
    watching = looked(fleet, keep=1)

    assert watching.overview().counts == dict(held(fleet))
    ended = [one.id for one in watching.search() if one.closed is not None]
    assert len(ended) == 1
    (gone, *_) = {"smooth", "full", "poor"} - {*ended}
    assert "it has ended, and is not held any more" in answer(watching, "GET", f"/workflow?id={gone}").body.decode()


def test_what_comes_late_about_a_workflow_that_was_let_go_is_no_new_one(fleet: Harness) -> None:
    watching = looked(fleet, keep=0)
    log = next(log for log in fleet.broker.logs.values() if any(r.key == b"smooth" for r in log))
    again = next(record for record in log if record.key == b"smooth")
    log.append(again._replace(offset=len(log)))

    watching.look()

    assert [one.id for one in watching.search()] == ["open"]
    assert watching.overview().counts == dict(held(fleet))


class Torn:
    """A broker that goes away in the middle of a reading, a given number of times."""

    def __init__(self, fleet: Harness, times: int) -> None:
        self.fleet, self.times = fleet, times
        self.each: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> object:
        return getattr(self.fleet.broker, name)

    def read(self, starts: Mapping[Partition, int | None]) -> Iterator[Record]:
        for number, record in enumerate(self.fleet.broker.read(starts)):
            if number == 2 and self.times:
                self.times -= 1
                raise BrokerError("nobody answers", retriable=True)
            self.each()
            yield record


def test_a_broker_that_goes_away_while_it_is_read_costs_no_record(fleet: Harness) -> None:
    watching = observer(fleet, Torn(fleet, 3))  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(BrokerError):
            watching.look()
        assert "The topics cannot be read: nobody answers." in page(watching)

    watching.look()

    assert watching.overview().counts == dict(held(fleet))
    assert watching.overview().records == looked(fleet).overview().records
    assert watching.overview().trouble is None


def test_topics_that_are_made_again_are_begun_anew(fleet: Harness) -> None:
    watching = looked(fleet)
    made_again(fleet.broker, "travel.events")

    with pytest.raises(BrokerError, match="made again"):
        watching.look()
    assert "What is below is of" not in page(watching)
    assert "Not known before all is read." in page(watching)
    watching.look()

    assert "smooth" not in {one.id for one in watching.search(limit=1000)}
    assert any(one.id.startswith("new ") for one in watching.search(limit=1000))


def test_while_topics_are_read_anew_it_does_not_say_that_they_cannot_be_read(fleet: Harness) -> None:
    broker = Torn(fleet, 0)
    watching = looked(fleet, broker)  # type: ignore[arg-type]
    made_again(fleet.broker, "travel.events")
    with pytest.raises(BrokerError, match="made again"):
        watching.look()
    broker.each = lambda: said.append(page(watching))
    said: list[str] = []

    watching.look()

    assert said
    assert all("The topics are being read" in one and "cannot be read" not in one for one in said)


def test_partitions_that_are_added_are_read(fleet: Harness) -> None:
    watching = looked(fleet)
    fleet.broker.add(["travel.events", "travel.compensations"], 8)

    with pytest.raises(BrokerError, match="partitions were added"):
        watching.look()
    watching.look()

    assert watching.overview().counts == dict(held(fleet))


def test_workflows_are_found_by_status_and_by_a_part_of_their_id(fleet: Harness) -> None:
    watching = looked(fleet)

    assert {one.id for one in watching.search(status=WorkflowStatus.COMPENSATED)} == {"full", "poor"}
    assert [one.id for one in watching.search(text="moot")] == ["smooth"]
    assert "poor" not in page(watching, "/?status=completed&text=").partition('id="workflows"')[2]


def test_the_page_of_a_workflow_tells_all_records_and_who_is_awaited(fleet: Harness) -> None:
    watching = looked(fleet)

    undone, waiting = page(watching, "/workflow?id=poor"), page(watching, "/workflow?id=open")

    assert all(words in undone for words in ("pay failed: TripDeclined", "hotel undone: HotelFreed", "compensated"))
    assert ": the outcome of flight, until " in waiting
    assert orjson.loads(page(watching, "/workflow.json?id=poor"))["state"]["status"] == "compensated"


def test_a_list_that_is_cut_says_so(fleet: Harness) -> None:
    assert "moved last" not in page(looked(fleet))
    for number in range(100):
        fleet.start(TripBooked(trip="rome"), workflow_id=f"rome {number}")
    fleet.settle()

    assert "These 100 moved last; there may be more" in page(looked(fleet))


def test_of_a_thousand_holes_the_first_are_shown_and_the_others_counted(fleet: Harness) -> None:
    log = next(log for log in fleet.broker.logs.values() if any(r.key == b"smooth" for r in log))
    good = next(record for record in log if record.key == b"smooth")
    for number in range(1000):
        odd = {**dict(good.headers), "ce_id": b"%d" % number, "ce_time": b"never"}
        log.append(good._replace(offset=len(log), headers=[*odd.items()]))

    told = page(looked(fleet), "/workflow?id=smooth")

    assert told.count("Not whole: ") == 5
    assert "And 995 more." in told


def test_long_names_of_participants_stay_apart_in_the_picture() -> None:
    names = [f"participant-with-a-rather-long-name-{number}" for number in range(3)]
    drawn = [short(name) for name in names]

    assert len({*drawn}) == 3
    assert all(len(name) <= 25 for name in drawn)
    assert short("airline") == "airline"


def test_programs_are_told_the_same_as_people(fleet: Harness) -> None:
    watching = looked(fleet)

    told = orjson.loads(page(watching, "/overview.json"))

    assert told["counts"] == dict(watching.overview().counts)
    listed = orjson.loads(page(watching, "/workflows.json?text=oo"))
    assert [one["id"] for one in listed["workflows"]] == [one.id for one in watching.search(text="oo")]
    assert listed["more"] is False


@pytest.mark.parametrize(
    "when", [b"0001-01-01T00:00:00+14:00", b"9999-12-31T23:59:59-14:00", b"9999-12-31T23:59:59Z", b"never"]
)
def test_a_record_that_nobody_can_read_is_shown_beside_the_others(fleet: Harness, when: bytes) -> None:
    log = next(log for log in fleet.broker.logs.values() if log)
    odd = {**dict(log[0].headers), "ce_id": b"odd", "ce_subject": b"odd", "ce_time": when}
    log.append(log[0]._replace(offset=len(log), key=b"odd", headers=[*odd.items()]))

    watching = looked(fleet)

    (alarm,) = watching.overview().alarms
    assert (alarm.workflow, alarm.concern) == ("odd", Concern.TORN)
    assert "has a header that makes no sense" in alarm.text
    assert "smooth" in page(watching)
    assert "Not whole: " in page(watching, "/workflow?id=odd")


def test_no_text_of_a_record_becomes_a_tag() -> None:
    evil = "<script>alert(1)</script>&'\""
    with harness(Script()) as fleet:
        fleet.start(TripBooked(trip=evil), workflow_id=evil)
        fleet.settle()
        watching = looked(fleet)
        (found,) = watching.search()
        link = page(watching).partition('href="workflow?id=')[2].partition('"')[0]

        assert "<script>alert" not in page(watching) + page(watching, f"/workflow?id={link}")
        assert "over after" in page(watching, f"/workflow?id={link}")
        assert found.id == evil


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("POST", "/", HTTPStatus.METHOD_NOT_ALLOWED, "send GET or HEAD"),
        ("GET", "/nowhere", HTTPStatus.NOT_FOUND, "there is no /nowhere; ask for /, /overview.json"),
        ("GET", "/workflow?id=misspelt", HTTPStatus.NOT_FOUND, "nothing is known of workflow 'misspelt': check the id"),
        ("GET", "/workflow", HTTPStatus.NOT_FOUND, "check the id"),
    ],
)
def test_what_it_does_not_do_is_refused_in_words(fleet: Harness, method: str, path: str, status: HTTPStatus, said: str) -> None:
    found = answer(looked(fleet), method, path)

    assert found.status is status
    assert said in orjson.loads(found.body)["error"]


def test_a_registry_that_is_away_is_told_to_whoever_asks(fleet: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise RegistryUnavailable("the registry does not answer")

    watching = looked(fleet)
    monkeypatch.setattr(AvroCodec, "decode", decode)

    found = answer(watching, "GET", "/workflow?id=poor")

    assert found.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert orjson.loads(found.body)["error"] == "workflow 'poor' cannot be read now: the registry does not answer"
    assert "smooth" in page(watching)


def test_before_the_first_look_the_page_says_so(fleet: Harness) -> None:
    told = page(observer(fleet))

    assert "The topics are being read: 0 records" in told
    assert not any(words in told for words in ("Nothing does", "Nobody: all", "None is so", ">0<"))


def test_what_is_half_read_is_no_alarm(fleet: Harness) -> None:
    watching = observer(fleet, Torn(fleet, 1))  # type: ignore[arg-type]
    fleet.clock.advance(7200)
    with pytest.raises(BrokerError):
        watching.look()

    told = watching.overview()
    assert told.records
    assert (told.alarmed, told.concerns, told.alarms, told.waiting) == (0, {}, (), ())
    watching.look()
    assert [one.workflow for one in watching.overview().alarms] == ["open"]


def test_a_page_that_waits_for_a_registry_keeps_nobody_else_waiting(fleet: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    watching = looked(fleet)
    asked: list[int] = []

    def slow(contracts: Contracts, history: History) -> Timeline:
        asked.append(watching.overview().records)  # which another thread would ask
        return timeline(contracts, history)

    monkeypatch.setattr("saga.observer.observer.timeline", slow)

    assert "pay failed" in page(watching, "/workflow?id=poor")
    assert asked == [watching.overview().records]


def test_nobody_may_frame_it_and_it_asks_nobody_else(fleet: Harness) -> None:
    found = answer(looked(fleet), "GET", "/")

    assert ("x-frame-options", "DENY") in found.headers
    assert "default-src 'none'" in unescape(found.body.decode())
    assert "http://" not in found.body.decode().replace("http://www.w3.org/2000/svg", "")


def test_the_figures_are_those_of_the_page_and_are_not_told_before_all_was_read(fleet: Harness) -> None:
    watching = observer(fleet)
    assert page(watching, "/metrics") == ""
    watching.look()
    fleet.clock.advance(120)

    told = page(watching, "/metrics").splitlines()

    assert 'saga_workflows{saga_name="travel",saga_status="compensated"} 2' in told
    assert 'saga_workflows{saga_name="travel",saga_status="unknown"} 0' in told
    assert 'saga_workflows_alarmed{saga_name="travel",saga_concern="overdue"} 1' in told
    assert 'saga_workflows_alarmed{saga_name="travel",saga_concern="stuck"} 0' in told
    assert 'saga_observer_age_seconds{saga_name="travel"} 120' in told
