"""Two versions of a saga side by side, and gates: a workflow runs as it began, to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from saga import DefinitionError, Event, Participant, Refused, Saga, Transaction
from saga.contracts.message import from_headers
from saga.contracts.topics import fact_topics
from saga.handling.quarantine import DEATHS
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.testing.harness import Harness
from saga.testing.simulation.simulation import Simulation
from tests.commands import schemas
from tests.travel import (
    CREATE_EFFECTS,
    FlightBooked,
    HotelBooked,
    Script,
    TripBooked,
    TripDeclined,
    TripInsured,
    TripPaid,
    effects,
    fleet,
    harness,
    saga,
)

ALL = ("agency", "hotels", "airline", "bank")
Travel = Callable[..., Harness]


@pytest.fixture
def travel() -> Iterator[Travel]:
    """Makes fleets that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(harness(*arguments, **options))


class Open:
    """Gates that are open by name, and what was asked."""

    def __init__(self, *names: str) -> None:
        self.names, self.asked = names, list[tuple[str, str]]()

    def is_open(self, gate: str, *, saga: str, workflow_id: str) -> bool:
        self.asked.append((gate, workflow_id))
        return gate in self.names


def ends(running: Harness, workflow: str) -> set[tuple[int, WorkflowStatus]]:
    found = [running.workflow(name, workflow) for name in ALL]
    return {(end.version, end.status) for end in found if end and end.closed}


def started(running: Harness, trip: str, version: int | None = None) -> str:
    with running.transaction("agency") as tx:
        return running.participants["agency"].start(TripBooked(trip=trip), tx, version=version)


def test_two_versions_run_side_by_side_each_workflow_in_its_own(travel: Travel) -> None:
    running = travel(Script(), versions=(1, 2))

    old, new = started(running, "rome", version=1), started(running, "oslo")
    running.settle()

    assert ends(running, old) == {(1, WorkflowStatus.COMPLETED)}
    assert ends(running, new) == {(2, WorkflowStatus.COMPLETED)}
    assert [workflow for workflow, step, _ in effects(running) if step == "insure"] == [new]


def test_each_version_unwinds_by_its_own_flow(travel: Travel) -> None:
    running = travel(Script(failing={("pay", "rome"), ("pay", "oslo")}), versions=(1, 2))

    old, new = started(running, "rome", version=1), started(running, "oslo", version=2)
    running.settle()

    assert ends(running, old) == {(1, WorkflowStatus.COMPENSATED)}
    assert ends(running, new) == {(2, WorkflowStatus.COMPENSATED)}
    assert running.steps(new)["insure"] is StepStatus.COMPENSATED


def test_a_workflow_goes_on_in_its_version_after_the_fleet_learned_another(travel: Travel) -> None:
    script = Script(waiting={"rome"})
    running = travel(script)
    old = started(running, "rome")
    running.settle()

    for participant in fleet(script, versions=(1, 2)):
        running.deploy(participant)
    new = started(running, "oslo")
    with running.transaction("airline") as tx:
        running.participants["airline"].resolve(old, "flight", FlightBooked(trip="rome"), tx)
    running.settle()

    assert ends(running, old) == {(1, WorkflowStatus.COMPLETED)}
    assert ends(running, new) == {(2, WorkflowStatus.COMPLETED)}


def test_a_version_that_is_not_known_cannot_be_started(travel: Travel) -> None:
    running = travel(Script())

    with pytest.raises(DefinitionError, match=r"'agency' knows saga 'travel' of version 1; found 3"):
        started(running, "rome", version=3)


def test_versions_of_different_sagas_are_no_versions() -> None:
    with pytest.raises(DefinitionError, match="found the sagas tours, travel; expected versions of one"):
        Participant("agency", [saga(), saga(name="tours", version=2)])


def test_the_same_version_twice_is_refused() -> None:
    with pytest.raises(DefinitionError, match="found versions 1, 1; expected each of them once"):
        Participant("agency", [saga(), saga()])


def test_a_handler_must_fit_every_version_that_it_is_for() -> None:
    bank = Participant("bank", [saga(), saga(version=2)])

    with pytest.raises(
        DefinitionError, match=r"exactly one for each event of travel.FlightBooked, .+ in version 2; if it is not"
    ):

        @bank.step
        def pay(hotel: HotelBooked, flight: FlightBooked, tx: Transaction) -> TripPaid | TripDeclined:
            return TripPaid(trip=hotel.trip)


def test_a_version_without_its_handler_is_refused() -> None:
    hotels = Participant("hotels", [saga(), saga(version=2)])

    with pytest.raises(DefinitionError, match="has no handler for its step 'hotel' in version 1"):
        hotels.check()


def test_a_step_behind_a_shut_gate_does_not_happen_and_nobody_waits_for_it(travel: Travel) -> None:
    running = travel(Script(), versions=(2,), gate="insurance", gates=Open())

    workflow = started(running, "rome")
    running.settle()

    assert ends(running, workflow) == {(2, WorkflowStatus.COMPLETED)}
    assert (workflow, "insure", "action") not in effects(running)


def test_a_step_behind_an_open_gate_happens(travel: Travel) -> None:
    running = travel(Script(), versions=(2,), gate="insurance", gates=Open("insurance"))

    workflow = started(running, "rome")
    running.settle()

    assert ends(running, workflow) == {(2, WorkflowStatus.COMPLETED)}
    assert (workflow, "insure", "action") in effects(running)


def test_gates_are_asked_once_and_hold_for_the_whole_workflow_everywhere(travel: Travel) -> None:
    gates, script = Open("insurance"), Script(waiting={"rome"})
    running = travel(script, versions=(2,), gate="insurance", gates=gates)
    workflow = started(running, "rome")
    running.settle()

    gates.names = ()
    for name in ALL:
        running.crash(name)
    with running.transaction("airline") as tx:
        running.participants["airline"].resolve(workflow, "flight", FlightBooked(trip="rome"), tx)
    running.settle()

    assert gates.asked == [("insurance", workflow)]
    assert ends(running, workflow) == {(2, WorkflowStatus.COMPLETED)}
    records = [r for log in running.broker.logs.values() for r in log if r.topic in fact_topics("travel")]
    assert {from_headers(dict(r.headers), r.value or b"").kind.gates for r in records} == {'["insurance"]'}
    assert {found.gates for name in ALL if (found := running.workflow(name, workflow))} == {'["insurance"]'}


def test_a_handler_must_fit_every_combination_of_gates() -> None:
    bank = Participant("bank", saga(version=2, gate="insurance"))

    with pytest.raises(DefinitionError, match=r"the others `\| None` \(they do not come while insurance is shut\)"):

        @bank.step
        def pay(hotel: HotelBooked, flight: FlightBooked, insured: TripInsured, tx: Transaction) -> TripPaid:
            return TripPaid(trip=hotel.trip)


def test_a_gate_whose_provider_fails_begins_nothing(travel: Travel) -> None:
    class Broken:
        def is_open(self, gate: str, *, saga: str, workflow_id: str) -> bool:
            raise ConnectionError("no flags today")

    running = travel(Script(), versions=(2,), gate="insurance", gates=Broken())

    with pytest.raises(ConnectionError):
        started(running, "rome")
    running.settle()

    assert [record for log in running.broker.logs.values() for record in log] == []


def test_the_environment_names_the_open_gates(travel: Travel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_GATES", "other, insurance")
    running = travel(Script(), versions=(2,), gate="insurance")

    workflow = started(running, "rome")
    running.settle()

    assert (workflow, "insure", "action") in effects(running)


def test_a_gate_that_no_release_here_has_is_told_once(
    travel: Travel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SAGA_GATES", "insurence")
    running = travel(Script(), versions=(1, 2), gate="insurance")

    for city in ("rome", "oslo"):
        started(running, city)

    (said,) = (record.getMessage() for record in caplog.records if record.name == "saga.gates")
    assert said.startswith("no saga here has the gate 'insurence', which opens nothing; known are insurance")


def test_openfeature_decides_by_workflow(travel: Travel) -> None:
    from openfeature import api
    from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

    from saga import OpenFeatureGates

    api.set_provider(InMemoryProvider({"insurance": InMemoryFlag("on", {"on": True, "off": False})}))
    running = travel(Script(), versions=(2,), gate="insurance", gates=OpenFeatureGates(api.get_client()))

    workflow = started(running, "rome")
    running.settle()

    assert (workflow, "insure", "action") in effects(running)


def described(plain: Saga, **changes: Any) -> Saga:
    """The same saga, in which the type of an event's trip, or a step, is another."""
    types = {name: dict(type_) for name, type_ in plain.types.items() if not name.startswith("saga.")}
    types["travel.TripPaid"] |= changes
    return Saga.of(*types.values(), plain.own)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (saga(external=True), r"step hotel: .* Give both the same, or the changed one another version"),
        (
            described(saga(), fields=[{"name": "trip", "type": "string"}, {"name": "sum", "type": "int", "default": 0}]),
            "travel.TripPaid: without a registry neither reads what the other writes",
        ),
    ],
    ids=["a step", "an event"],
)
def test_a_fleet_whose_contracts_disagree_on_a_version_is_refused_before_it_lives(other: Saga, told: str) -> None:
    *others, bank = fleet(Script())
    changed = Participant("bank", other)
    changed.handlers.update(bank.handlers)

    expected = f"'agency' and 'bank' have different contracts that claim to be saga 'travel' of version 1: {told}"
    with pytest.raises(DefinitionError, match=expected):
        Harness(*others, changed)
    with pytest.raises(DefinitionError, match=expected):
        Simulation([*others, changed])
    with pytest.raises(DefinitionError, match=expected):
        Simulation([*others, bank], releases=[changed])


def test_contracts_that_are_described_otherwise_live_together() -> None:
    *others, bank = fleet(Script())
    changed = Participant("bank", described(saga(), doc="The trip is paid."))
    changed.handlers.update(bank.handlers)

    with Harness(*others, changed) as running:
        for name in running.stores:
            with running.transaction(name) as tx:
                tx.execute(CREATE_EFFECTS)
        workflow = running.start(TripBooked(trip="rome"))
        running.settle()
        assert ends(running, workflow) == {(1, WorkflowStatus.COMPLETED)}


@pytest.mark.parametrize("flag", [None, "yes"], ids=["a provider that fails", "no boolean"])
def test_an_openfeature_provider_that_gives_no_answer_is_told_once_until_it_does(
    travel: Travel, flag: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    from openfeature import api
    from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

    from saga import OpenFeatureGates

    class Failing(InMemoryProvider):
        def resolve_boolean_details(self, *_: object) -> Any:
            raise RuntimeError("away")

    def provider(value: object) -> InMemoryProvider:
        return InMemoryProvider({"insurance": InMemoryFlag("on", {"on": value})})

    running = travel(Script(), versions=(2,), gate="insurance", gates=OpenFeatureGates(api.get_client()))
    begun: list[list[str]] = []
    for answering in (Failing({}) if flag is None else provider(flag), InMemoryProvider({}), provider(True)):
        api.set_provider_and_wait(answering)
        begun.append([started(running, f"{city} {len(begun)}") for city in ("rome", "oslo")])
    running.settle()

    failed, _, opened = begun
    assert {workflow for workflow, step, _ in effects(running) if step == "insure"} == {*opened}
    (said,) = (record.getMessage() for record in caplog.records if record.name == "saga.gates")
    assert said.startswith(f"gate 'insurance' is shut for workflow {failed[0]}, and until its provider answers: ")


@pytest.mark.parametrize("script", [Script(raising={("hotel", "oslo"): 5}), Script(waiting={"oslo"})], ids=["retry", "timeout"])
def test_what_is_of_a_version_that_a_release_does_not_know_waits_for_one_that_does(travel: Travel, script: Script) -> None:
    running = travel(script, versions=(1, 2))
    new = started(running, "oslo")
    running.settle()

    for participant in fleet(script, versions=(1,)):
        running.deploy(participant)
    old = started(running, "rome")
    running.advance(700)
    assert (ends(running, old), ends(running, new)) == ({(1, WorkflowStatus.COMPLETED)}, set())
    assert running.steps(new)["book"] is StepStatus.DONE

    with running.transaction("agency") as tx, pytest.raises(Refused, match="it is of version 2; 'agency' knows 1"):
        running.participants["agency"].abort(new, tx, reason="called off")
    for participant in fleet(script, versions=(1, 2)):
        running.deploy(participant)
    running.advance(700)
    assert ends(running, new) == {(2, WorkflowStatus.COMPENSATED)}


@pytest.mark.parametrize("script", [Script(raising={("hotel", "oslo"): 5}), Script(waiting={"oslo"})], ids=["retry", "timeout"])
def test_a_version_that_lost_a_gate_stops_the_lane_of_a_workflow_behind_it_until_it_has_it_again(
    travel: Travel, script: Script
) -> None:
    running = travel(script, versions=(2,), gate="insurance", gates=Open("insurance"))
    workflow = started(running, "oslo")
    running.settle()

    for participant in fleet(script, versions=(2,)):
        running.deploy(participant)
    running.advance(700)

    stopped = {str(error) for errors in running.stopped().values() for error in errors}
    assert len(stopped) == 1
    assert f'workflow {workflow} runs in version 2 behind the gates ["insurance"], and' in stopped.pop()
    with running.transaction("agency") as tx, pytest.raises(Refused, match="it runs in version 2 behind the gates"):
        running.participants["agency"].abort(workflow, tx, reason="called off")
    for participant in fleet(script, versions=(2,), gate="insurance"):
        running.deploy(participant)
    running.advance(700)
    assert ends(running, workflow) == {(2, WorkflowStatus.COMPENSATED)}
    assert running.stopped() == {}


def test_a_lane_that_stops_at_each_start_is_not_taken_for_one_at_which_the_process_dies(travel: Travel) -> None:
    script = Script(raising={("hotel", "oslo"): 3})
    running = travel(script, versions=(2,), gate="insurance", gates=Open("insurance"))
    workflow = started(running, "oslo")
    running.settle()

    for _ in range(2 + DEATHS):
        running.deploy(fleet(script, versions=(2,))[1])
        running.advance(5)
    running.deploy(fleet(script, versions=(2,), gate="insurance")[1])
    for _ in range(3):
        running.advance(60)

    assert ends(running, workflow) == {(2, WorkflowStatus.COMPLETED)}


def test_a_call_to_the_world_is_not_asked_about_in_a_release_that_does_not_know_its_version(travel: Travel) -> None:
    script = Script()
    running = travel(script, versions=(1, 2), external=True)
    script.meanwhile = lambda: (_ for _ in ()).throw(KeyboardInterrupt)  # the process ends in it
    new = started(running, "oslo")
    with pytest.raises(KeyboardInterrupt):
        running.settle()
    script.meanwhile = lambda: None

    for participant in fleet(script, versions=(1,), external=True):
        running.deploy(participant)
    running.settle()
    assert len(script.calls) == 1

    for participant in fleet(script, versions=(1, 2), external=True):
        running.deploy(participant)
    running.settle()
    assert ends(running, new) == {(2, WorkflowStatus.COMPLETED)}


class OrderPlaced(Event):
    order_id: str


class OrderCancelled(Event):
    order_id: str


class OrderShipped(Event):
    order_id: str


def ordering(version: int, initiator: str, other: str) -> Saga:
    """Place, then ship, of which the deadline is ten minutes."""
    place = {"name": "place", "by": initiator, "emits": ["OrderPlaced"], "compensated": "OrderCancelled"}
    ship = {"name": "ship", "by": other, "on": ["OrderPlaced"], "emits": ["OrderShipped"]}
    *records, flow = schemas(place, ship)
    return Saga.of(*records, flow | {"saga": flow["saga"] | {"version": version, "owner": initiator}})


def clerk(name: str, *, away: bool) -> Participant:
    """Places orders in one of two versions and ships them in the other, once the world is not `away`."""
    participant = Participant(name, [ordering(1, "shop", "web"), ordering(2, "web", "shop")])

    @participant.step
    def ship(order: OrderPlaced, tx: Transaction) -> OrderShipped:
        if away:
            raise OSError("no carrier")
        return OrderShipped(order_id=order.order_id)

    @participant.compensation(of="place")
    def cancel(order: OrderPlaced, tx: Transaction) -> OrderCancelled:
        return OrderCancelled(order_id=order.order_id)

    return participant


def test_who_began_a_workflow_watches_its_deadline_though_another_begins_those_of_the_latest_version() -> None:
    with Harness(clerk("shop", away=True), clerk("web", away=True), partitions=1) as running:
        for name, version in (("shop", 1), ("web", 2)):
            with running.transaction(name) as tx:
                event = OrderPlaced(order_id=name)
                running.participants[name].start(event, tx, workflow_id=name, version=version)
        running.settle()
        running.advance(700)

        found = [running.workflow(name, workflow) for workflow in ("shop", "web") for name in ("shop", "web")]
        assert {known.status if known else None for known in found} == {WorkflowStatus.COMPENSATED}
