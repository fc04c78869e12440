"""The fixture that users get: time in words, deaths at named places, assertions that tell a workflow's story."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from saga import DefinitionError, Event, Participant, Saga, Transaction
from saga.failpoints import Failpoint
from saga.testing.environment import Environment, seconds
from tests.travel import CREATE_EFFECTS, Script, TripBooked, effects, fleet

Make = Callable[[Script], Environment]


@pytest.fixture
def travel(saga_env: Callable[..., Environment]) -> Make:
    def tables(participant: str, tx: Transaction) -> None:
        tx.execute(CREATE_EFFECTS)

    return lambda script: saga_env(*fleet(script), prepare=tables)


def test_a_workflow_that_completes_does_so_for_everybody(travel: Make) -> None:
    env = travel(Script())

    trip = env.start(TripBooked(trip="rome"))

    env.assert_saga(trip).completed().steps(hotel="done", pay="done")


def test_a_workflow_is_undone_in_an_order_that_can_be_asserted(travel: Make) -> None:
    env = travel(Script(failing={("pay", "rome")}))

    outcome = env.assert_saga(env.start(TripBooked(trip="rome")))

    assert outcome.compensated().story().splitlines()[-1] == "  book compensated"
    with pytest.raises(AssertionError, match=r"undone were (hotel|flight), (hotel|flight), book; expected book, hotel"):
        outcome.compensated(order=["book", "hotel"])


def test_a_process_dies_where_it_is_told_to_and_nothing_happens_twice(travel: Make) -> None:
    env = travel(Script())
    trip = env.start(TripBooked(trip="rome"))
    env.turn("agency")

    env.crash_at("unit.committed", participant="hotels")

    env.assert_saga(trip).completed()
    assert effects(env).count((trip, "hotel", "action")) == 1


def test_each_fleet_of_the_same_participants_asks_anew_which_gates_are_open(
    saga_env: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    crew, ends = fleet(Script(), versions=(2,), gate="insurance"), []

    for opened in ("", "insurance", ""):
        monkeypatch.setenv("SAGA_GATES", opened)
        env = saga_env(*crew, prepare=lambda _, tx: tx.execute(CREATE_EFFECTS))
        trip = env.start(TripBooked(trip="rome"))
        env.assert_saga(trip).completed()
        ends.append("insure" in env.steps(trip))

    assert ends == [False, True, False]


def test_a_participant_that_does_not_run_here_is_told_with_those_that_do(travel: Make) -> None:
    env = travel(Script())

    with pytest.raises(DefinitionError, match=r"found the participant 'hotel'; expected one of .*: agency, "):
        env.crash("hotel")
    with pytest.raises(DefinitionError, match="found the participant 'hotel'"), env.transaction("hotel"):
        pass


@pytest.mark.parametrize(("given", "told"), [([], "nobody"), ([[]], "list"), (["agency"], "str")])
def test_a_fleet_of_nobody_is_refused(saga_env: Callable[..., Environment], given: list[Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=f"found {told}; expected the participants of one saga one by one"):
        saga_env(*given)


def test_a_place_that_is_never_reached_is_no_death(travel: Make) -> None:
    with pytest.raises(AssertionError, match=r"hotels came to rest and was never at unit\.committed 1 times"):
        travel(Script()).crash_at(Failpoint.UNIT_COMMITTED, participant="hotels")


def test_a_place_or_a_step_that_is_none_is_told_with_those_that_are(travel: Make) -> None:
    env = travel(Script())
    trip = env.start(TripBooked(trip="rome"))

    with pytest.raises(DefinitionError, match=r"found the place 'unit.commited'; expected one of unit.inside, unit.committed"):
        env.crash_at("unit.commited", participant="hotels")
    with pytest.raises(AssertionError, match=r"saga 'travel' has no step 'hotl'; expected one of book, hotel, flight, pay"):
        env.assert_saga(trip).parked(step="hotl")


def test_a_fleet_that_lacks_a_participant_says_so_where_its_workflow_does_not_end(
    saga_env: Callable[..., Environment],
) -> None:
    env = saga_env(*fleet(Script())[:3], prepare=lambda _, tx: tx.execute(CREATE_EFFECTS))
    trip = env.start(TripBooked(trip="rome"))

    with pytest.raises(AssertionError, match=r"expected completed everywhere(?s:.*)  bank does not run here$"):
        env.assert_saga(trip).completed()
    with pytest.raises(AssertionError, match=r"saga 'travel' has no step 'hotl'; expected one of book, hotel, flight, pay"):
        env.assert_saga(trip).steps(hotl="done")


def test_what_is_parked_is_told_with_its_reason_and_goes_on_in_time(travel: Make) -> None:
    env = travel(Script(raising={("hotel", "rome"): 3}))
    trip = env.start(TripBooked(trip="rome"))

    env.assert_saga(trip).parked(step="hotel")
    with pytest.raises(AssertionError, match=r"(?s)agency: open.*hotels: hotel waits after \d tries: RuntimeError"):
        env.assert_saga(trip).completed()
    with pytest.raises(AssertionError, match=r"'pay' is .* and not parked"):
        env.assert_saga(trip).parked(step="pay")

    env.advance("5m")
    env.assert_saga(trip).completed()


def test_a_deadline_passes_in_words(travel: Make) -> None:
    script = Script(waiting={"rome"})
    env = travel(script)
    trip = env.start(TripBooked(trip="rome"))

    env.advance("2h")

    env.assert_saga(trip).compensated()


def test_a_timeout_runs_from_when_its_step_is_reached_and_not_from_when_time_has_passed(travel: Make) -> None:
    env = travel(Script(waiting={"rome"}))
    trip = env.start(TripBooked(trip="rome"))

    env.advance("59s")
    assert env.steps(trip)["flight"] == "running"
    env.advance("2s")

    env.assert_saga(trip).compensated()


def test_what_is_tried_again_and_again_is_so_whenever_it_is_due(travel: Make) -> None:
    env = travel(Script(raising={("hotel", "rome"): 8}))
    trip = env.start(TripBooked(trip="rome"))

    env.advance("5m")

    env.assert_saga(trip).completed()


@pytest.mark.parametrize(
    ("span", "expected"),
    [(1.5, 1.5), ("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86400), ("PT2H", 7200), (timedelta(minutes=1), 60)],
)
def test_time_is_said_in_several_ways(span: str | float | timedelta, expected: float) -> None:
    assert seconds(span) == expected


@pytest.mark.parametrize("span", ["soon", "5x", "h", ""])
def test_what_is_no_time_is_refused(span: str) -> None:
    with pytest.raises(DefinitionError, match="expected a span such as 90s"):
        seconds(span)


def test_a_workflow_of_an_older_version_is_asked_of_those_who_have_a_part_in_it(saga_env: Callable[..., Environment]) -> None:
    booked = {"type": "record", "name": "Booked", "namespace": "tour", "fields": []}

    def tour(version: int, porter: Mapping[str, Any] | None = None) -> Saga:
        told: list[tuple[str, dict[str, Any]]] = [("book", {"by": "agency", "emits": ["Booked"], "compensated": None})]
        told += [("pack", {"on": ["Booked"], "emits": ["Packed"], **porter})] if porter else []
        fields = [{"name": name, "type": ["null", step["emits"][0]], "default": None, "step": step} for name, step in told]
        own = {"name": "tour", "version": version, "owner": "agency"}
        packed = [{**booked, "name": "Packed"}] if porter else []
        return Saga.of(booked, *packed, {**booked, "name": "Tour", "saga": own, "fields": fields})

    versions = [tour(1, {"by": "guide"}), tour(2, {"by": "porter"})]
    agency, guide, porter = (Participant(name, versions) for name in ("agency", "guide", "porter"))
    for one, number in ((guide, 1), (porter, 2)):
        one.step(step="pack", versions=[number])(_packed)
    env = saga_env(agency, guide, porter)
    with env.transaction("agency") as tx:
        old, new = (agency.start(Booked(), tx, version=number) for number in (1, 2))

    env.assert_saga(old).completed().steps(pack="done")
    env.assert_saga(new).completed().steps(pack="done")


class Booked(Event):
    """Of a tour."""


class Packed(Event):
    """Of a tour."""


def _packed(event: Booked, tx: Transaction) -> Packed:
    return Packed()
