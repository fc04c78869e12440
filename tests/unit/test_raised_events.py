"""One handler for two versions: the old version's event is raised to the new one before the handler gets it."""

from __future__ import annotations

from typing import Any

import pytest

from saga import DefinitionError, Event, Participant, Saga, Transaction
from saga.contracts.upcast import Fields, Upcasters
from saga.errors import ContractError
from saga.protocol.facts import WorkflowStatus
from saga.testing.harness import Harness
from tests.rebuilding import rebuilt, rows
from tests.travel import ADD_EFFECT, CREATE_EFFECTS

upcasters = Upcasters()


@upcasters.upcast("shop.Sold", to="shop.SoldPriced")
def with_price(old: Fields) -> Fields:
    return {"sku": old["sku"], "price": 100}


@upcasters.upcast("shop.Packed", to="shop.PackedSafely")
def unpadded(old: Fields) -> Fields:
    return {"sku": old["sku"], "padding": "none"}


class Sold(Event):
    sku: str


class SoldPriced(Event):
    sku: str
    price: int


class Returned(Event):
    sku: str


class Packed(Event):
    sku: str


class PackedSafely(Event):
    sku: str
    padding: str


class Unpacked(Event):
    sku: str


class Sent(Event):
    sku: str


class Refused(Event):
    sku: str


def _record(name: str, **fields: str) -> dict[str, Any]:
    described = [{"name": field, "type": kind} for field, kind in {"sku": "string", **fields}.items()]
    return {"type": "record", "name": name, "namespace": "shop", "fields": described}


def _step(name: str, by: str, **step: Any) -> dict[str, Any]:
    events = [*step["emits"], *(step[key] for key in ("fails", "compensated") if step.get(key))]
    return {"name": name, "type": ["null", *events], "default": None, "step": {"by": by, **step}}


def shop(version: int) -> Saga:
    sold, packed = ("Sold", "Packed") if version == 1 else ("SoldPriced", "PackedSafely")
    old = [_record("Sold"), _record("Packed")]
    new = [_record("SoldPriced", price="int"), _record("PackedSafely", padding="string")]
    return Saga.of(
        *(old if version == 1 else new),
        *(_record(name) for name in ("Returned", "Unpacked", "Sent", "Refused")),
        {
            "type": "record",
            "name": "Sale",
            "namespace": "shop",
            "saga": {"name": "shop", "version": version, "deadline": "PT10M", "owner": "till"},
            "fields": [
                _step("sell", "till", emits=[sold], compensated="Returned"),
                _step("pack", "depot", on=[sold], emits=[packed], compensated="Unpacked"),
                _step("send", "carrier", on=[packed], emits=["Sent"], fails="Refused", pivot=True),
            ],
        },
    )


class Seen:
    """What handlers were given."""

    def __init__(self) -> None:
        self.packed: list[SoldPriced] = []
        self.unpacked: list[PackedSafely | None] = []


def fleet(seen: Seen) -> list[Participant]:
    both = [shop(1), shop(2)]
    till, depot, carrier = (Participant(name, both, upcasters=upcasters) for name in ("till", "depot", "carrier"))

    @till.compensation(of="sell")
    def take_back(sold: SoldPriced, tx: Transaction) -> Returned:
        return Returned(sku=sold.sku)

    def packing(sold: SoldPriced) -> str:
        seen.packed.append(sold)
        return sold.sku

    @depot.step(step="pack", versions=[1])
    def pack_plainly(sold: SoldPriced, tx: Transaction) -> Packed:
        return Packed(sku=packing(sold))

    @depot.step(versions=[2])
    def pack(sold: SoldPriced, tx: Transaction) -> PackedSafely:
        return PackedSafely(sku=packing(sold), padding="straw")

    @depot.compensation(of="pack")
    def unpack(packed: PackedSafely, tx: Transaction) -> Unpacked:
        seen.unpacked.append(packed)
        return Unpacked(sku=packed.sku)

    @carrier.step
    def send(packed: PackedSafely, tx: Transaction) -> Sent | Refused:
        return Refused(sku=packed.sku) if packed.sku == "bomb" else Sent(sku=packed.sku)

    return [till, depot, carrier]


def sold(running: Harness, event: Event, version: int) -> str:
    with running.transaction("till") as tx:
        workflow = running.participants["till"].start(event, tx, version=version)
    running.settle()
    return workflow


def status(running: Harness, workflow: str) -> WorkflowStatus:
    found = running.workflow("till", workflow)
    assert found is not None
    return found.status


def test_a_handler_of_the_new_event_serves_the_old_version_too() -> None:
    seen = Seen()

    with Harness(*fleet(seen)) as running:
        old = sold(running, Sold(sku="pan"), 1)
        new = sold(running, SoldPriced(sku="pot", price=7), 2)

        assert (status(running, old), status(running, new)) == (WorkflowStatus.COMPLETED, WorkflowStatus.COMPLETED)
    assert [(event.sku, event.price) for event in seen.packed] == [("pan", 100), ("pot", 7)]


def test_what_was_recorded_under_the_old_name_is_undone_by_the_new_compensation() -> None:
    seen = Seen()

    with Harness(*fleet(seen)) as running:
        old = sold(running, Sold(sku="bomb"), 1)

        assert status(running, old) is WorkflowStatus.COMPENSATED
    assert seen.unpacked == [PackedSafely(sku="bomb", padding="none")]


def test_without_an_upcaster_such_a_handler_is_refused() -> None:
    depot = Participant("depot", [shop(1), shop(2)])

    with pytest.raises(DefinitionError, match=r"saga 'shop' has no event 'SoldPriced'.+ in version 1"):

        @depot.step
        def pack(sold: SoldPriced, tx: Transaction) -> PackedSafely:
            return PackedSafely(sku=sold.sku, padding="straw")


def write(tx: Transaction, act: str, event: Event) -> None:
    """A row of the service's own, made of nothing but an event."""
    tx.execute(ADD_EFFECT, (tx.workflow_id, "pack", act, event.model_dump_json()))


def booking(upcasters: Upcasters = upcasters) -> list[Participant]:
    """The fleet, but the depot keeps books, and declares of the new events alone what they leave in them."""
    till, _, carrier = fleet(Seen())
    depot = Participant("depot", [shop(1), shop(2)], upcasters=upcasters)

    @depot.step(step="pack", versions=[1])
    def pack_plainly(sold: SoldPriced, tx: Transaction) -> Packed:
        write(tx, "sold", sold)
        write(tx, "packed", PackedSafely(sku=sold.sku, padding="none"))
        return Packed(sku=sold.sku)

    @depot.step(versions=[2])
    def pack(sold: SoldPriced, tx: Transaction) -> PackedSafely:
        packed = PackedSafely(sku=sold.sku, padding="straw")
        write(tx, "sold", sold)
        write(tx, "packed", packed)
        return packed

    @depot.compensation(of="pack")
    def unpack(packed: PackedSafely, tx: Transaction) -> Unpacked:
        write(tx, "unpacked", packed)
        return Unpacked(sku=packed.sku)

    @depot.evolve(PackedSafely)
    def packed_again(packed: PackedSafely, sold: SoldPriced, tx: Transaction) -> None:
        write(tx, "sold", sold)
        write(tx, "packed", packed)

    @depot.evolve(Unpacked)
    def unpacked_again(unpacked: Unpacked, packed: PackedSafely, tx: Transaction) -> None:
        write(tx, "unpacked", packed)

    return [till, depot, carrier]


def live(participants: list[Participant]) -> Harness:
    """Sales of both versions, some of which are undone."""
    running = Harness(*participants)
    with running.transaction("depot") as tx:
        tx.execute(CREATE_EFFECTS)
    for event, version in ((Sold(sku="pan"), 1), (SoldPriced(sku="pot", price=7), 2), (Sold(sku="bomb"), 1)):
        sold(running, event, version)
    return running


def test_a_rebuild_raises_old_events_exactly_as_handlers_see_them() -> None:
    with live(booking()) as running:
        store = rebuilt(running, "depot")

        assert rows(store) == rows(running.stores["depot"])
    assert [(row[2], row[3]) for row in rows(store) if "bomb" in row[3]] == [
        ("packed", '{"sku":"bomb","padding":"none"}'),
        ("sold", '{"sku":"bomb","price":100}'),
        ("unpacked", '{"sku":"bomb","padding":"none"}'),
    ]


def test_what_is_declared_for_the_old_event_itself_is_not_raised() -> None:
    participants = booking()
    plainly: list[str] = []

    @participants[1].evolve(Packed)
    def packed_plainly_again(packed: Packed, tx: Transaction) -> None:
        plainly.append(packed.sku)

    with live(participants) as running:
        rebuilt(running, "depot")

    assert sorted(plainly) == ["bomb", "pan"]
    with pytest.raises(DefinitionError, match=r"shop\.PackedSafely leaves is declared twice"):
        participants[1].unchanged_by(PackedSafely)


def test_an_old_event_that_cannot_be_raised_is_named_with_its_workflow_and_record() -> None:
    broken = Upcasters()
    broken.upcast("shop.Sold", to="shop.SoldPriced")(with_price)

    @broken.upcast("shop.Packed", to="shop.PackedSafely")
    def unpadded(old: Fields) -> Fields:
        raise KeyError("padding")

    with live(booking()) as running:
        running.participants["depot"] = booking(broken)[1]

        with pytest.raises(ContractError, match=r"workflow .+, record shop.events/\d@\d+: .+ unpadded failed with KeyError"):
            rebuilt(running, "depot")
