"""Whether the fleet kept its promises: reads every database and the gateway's ledger after a run, and trusts none of them.

Each claim is one function that answers what contradicts it; a claim holds if nothing does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import orjson

from demo.books import GATEWAY, OPEN, SERVICES, Books
from demo.order import Intake

ORDERS = "SELECT order_id, request, status FROM orders"
ITEMS = "SELECT sku, on_hand, reserved FROM items"
RESERVATIONS = "SELECT order_id, sku, quantity, status FROM reservations"
PAYMENTS = "SELECT kind, order_id, authorisation, amount FROM payments WHERE kind <> 'declined'"
LEDGER = "SELECT kind, order_id, authorisation, amount FROM ledger WHERE kind <> 'declined'"
PARCELS = "SELECT order_id, country FROM parcels"

Entry = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim. `checked` says how much was looked at, `against` what contradicts the claim, `problems` how often."""

    claim: str
    checked: str
    problems: int = 0
    against: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return self.problems == 0


@dataclass(frozen=True, slots=True)
class Placed:
    """An order as orders has it: `wanted` maps items to units, `total` is in pence."""

    status: str
    country: str
    wanted: Counter[str]
    total: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was read, and what went in: the opening stock by item, the totals by order."""

    opening: Mapping[str, int]
    totals: Mapping[str, int]
    orders: Mapping[str, Placed]
    items: Mapping[str, tuple[int, int]]
    reservations: list[tuple[str, str, int, str]]
    payments: list[Entry]
    ledger: list[Entry]
    parcels: list[tuple[str, str]]
    open: Mapping[str, int] = field(default_factory=dict)

    def with_status(self, status: str) -> dict[str, Placed]:
        return {order_id: order for order_id, order in self.orders.items() if order.status == status}

    def reserved(self, *statuses: str) -> dict[str, Counter[str]]:
        """Order ids to units by item, of the reservations in one of these states."""
        found: dict[str, Counter[str]] = {}
        for order_id, sku, quantity, status in self.reservations:
            if status in statuses:
                found.setdefault(order_id, Counter())[sku] += quantity
        return found

    def money(self, kind: str) -> dict[str, Counter[str]]:
        """Order ids to pence by authorisation, of the payments of one kind."""
        found: dict[str, Counter[str]] = {}
        for entry_kind, order_id, authorisation, amount in self.payments:
            if entry_kind == kind:
                found.setdefault(order_id, Counter())[authorisation] += amount
        return found


def audit(books: Books, *, opening: Mapping[str, int], totals: Mapping[str, int]) -> list[Finding]:
    """All findings about a fleet that was given these items and these orders (order id to pence)."""
    evidence = gather(books, opening, totals)
    return [_finding(claim, checked(evidence), check(evidence)) for claim, checked, check in _CLAIMS]


def account(intake: Intake) -> Finding:
    """Whether every invoice of the source was ordered or refused, and every line kept, dropped or refused with its invoice."""
    found = []
    if intake.ordered + intake.refused.total() != intake.invoices:
        found.append(f"{intake.invoices} invoices, but {intake.ordered} ordered and {intake.refused.total()} refused")
    if (parts := intake.kept + intake.dropped.total() + intake.refused_lines) != intake.lines:
        found.append(f"{intake.lines} lines, but {parts} kept, dropped or refused")
    return _finding("every invoice is accounted for", f"{intake.invoices} invoices, {intake.lines} lines", iter(found))


def gather(books: Books, opening: Mapping[str, int], totals: Mapping[str, int]) -> Evidence:
    return Evidence(
        opening=opening,
        totals=totals,
        orders={order_id: _placed(request, status) for order_id, request, status in books.rows("orders", ORDERS)},
        items={sku: (on_hand, reserved) for sku, on_hand, reserved in books.rows("stock", ITEMS)},
        reservations=books.rows("stock", RESERVATIONS),
        payments=books.rows("payments", PAYMENTS),
        ledger=books.rows(GATEWAY, LEDGER),
        parcels=books.rows("shipping", PARCELS),
        open={service: books.rows(service, OPEN)[0][0] for service in SERVICES},
    )


def _placed(request: str, status: str) -> Placed:
    order = orjson.loads(request)
    wanted: Counter[str] = Counter()
    for line in order["lines"]:
        wanted[line["sku"]] += line["quantity"]
    return Placed(status, order["country"], wanted, sum(line["quantity"] * line["unit_price"] for line in order["lines"]))


def _finding(claim: str, checked: str, against: Iterator[str]) -> Finding:
    found = list(against)
    return Finding(claim, checked, len(found), tuple(found[:5]))


def _all_taken_in(e: Evidence) -> Iterator[str]:
    for order_id in e.totals.keys() - e.orders.keys():
        yield f"order {order_id} was sent and is not in orders' books"
    for order_id in e.orders.keys() - e.totals.keys():
        yield f"order {order_id} is in orders' books and was never sent"
    for order_id in e.totals.keys() & e.orders.keys():
        if e.orders[order_id].total != e.totals[order_id]:
            yield f"order {order_id}: sent for {e.totals[order_id]} pence, placed for {e.orders[order_id].total}"


def _all_ended(e: Evidence) -> Iterator[str]:
    for order_id, order in e.orders.items():
        if order.status not in {"confirmed", "cancelled"}:
            yield f"order {order_id} is {order.status}"


def _none_open(e: Evidence) -> Iterator[str]:
    for service, count in e.open.items():
        if count:
            yield f"{count} open in {service}"


def _units_conserved(e: Evidence) -> Iterator[str]:
    aside: Counter[str] = Counter()
    for units in e.reserved("reserved").values():
        aside += units
    for sku in sorted(e.opening.keys() | e.items.keys() | aside.keys()):
        opening, (on_hand, reserved) = e.opening.get(sku, 0), e.items.get(sku, (0, 0))
        if opening != on_hand + reserved or reserved != aside[sku]:
            yield f"{sku}: opening {opening}, on hand {on_hand}, reserved {reserved}, of which for orders {aside[sku]}"


def _money_conserved(e: Evidence) -> Iterator[str]:
    ours, theirs = Counter(e.payments), Counter(e.ledger)
    for name, only in (("only in payments' journal", ours - theirs), ("only in the gateway's ledger", theirs - ours)):
        for kind, order_id, authorisation, amount in only.elements():
            yield f"{name}: {kind} {amount} for order {order_id}, {authorisation}"
    held = _net(e.ledger)
    due = sum(order.total for order in e.with_status("confirmed").values())
    if held != due:
        yield f"the gateway holds {held} pence, confirmed orders come to {due}"


def _net(entries: Iterable[Entry]) -> int:
    return sum(amount if kind == "authorised" else -amount for kind, _, _, amount in entries)


def _no_effect_twice(e: Evidence) -> Iterator[str]:
    effects: Mapping[str, Iterable[object]] = {
        "reservation of order and item": ((order_id, sku) for order_id, sku, _, _ in e.reservations),
        "payments' entry of order and kind": ((order_id, kind) for kind, order_id, _, _ in e.payments),
        "gateway's entry of order and kind": ((order_id, kind) for kind, order_id, _, _ in e.ledger),
        "parcel of order": (order_id for order_id, _ in e.parcels),
    }
    for effect, keys in effects.items():
        for key, times in Counter(keys).items():
            if times > 1:
                yield f"{effect} {key}: {times} times"


def _undone_exactly(e: Evidence) -> Iterator[str]:
    """The goods and the money of cancelled orders, all of them and nobody else's, were given back."""
    cancelled = e.with_status("cancelled").keys()
    done, undone = e.reserved("reserved", "released"), e.reserved("released")
    yield from _differences("units released", {o: units for o, units in done.items() if o in cancelled}, undone)
    done, undone = e.money("authorised"), e.money("voided")
    yield from _differences("pence voided", {o: pence for o, pence in done.items() if o in cancelled}, undone)
    for order_id, _ in e.parcels:
        if order_id in cancelled:
            yield f"order {order_id} is cancelled and was dispatched"


def _fulfilled_exactly(e: Evidence) -> Iterator[str]:
    """Confirmed orders, and only they, hold their goods, have paid their total and are on their way to their country."""
    confirmed = e.with_status("confirmed")
    yield from _differences("units", {o: order.wanted for o, order in confirmed.items()}, e.reserved("reserved"))
    paid = {order_id: authorised.total() for order_id, authorised in e.money("authorised").items()}
    for order_id, pence in e.money("voided").items():
        paid[order_id] = paid.get(order_id, 0) - pence.total()
    paid = {order_id: pence for order_id, pence in paid.items() if pence}
    yield from _differences("pence", {o: order.total for o, order in confirmed.items() if order.total}, paid)
    yield from _differences("country", {o: order.country for o, order in confirmed.items()}, dict(e.parcels))


def _differences(what: str, expected: Mapping[str, object], found: Mapping[str, object]) -> Iterator[str]:
    for order_id in sorted(expected.keys() | found.keys()):
        if expected.get(order_id) != found.get(order_id):
            yield f"{what} of order {order_id}: expected {expected.get(order_id)}, found {found.get(order_id)}"


Check = Callable[[Evidence], Iterator[str]]

_CLAIMS: tuple[tuple[str, Callable[[Evidence], str], Check], ...] = (
    ("every order sent was taken in as it was sent", lambda e: f"{len(e.totals)} orders", _all_taken_in),
    ("every order is confirmed or cancelled", lambda e: f"{len(e.orders)} orders", _all_ended),
    ("no workflow is open in any service", lambda e: f"{len(e.open)} stores", _none_open),
    ("units are conserved", lambda e: f"{sum(e.opening.values())} units of {len(e.opening)} items", _units_conserved),
    (
        "money is conserved to the penny",
        lambda e: f"{_net(e.ledger) / 100:.2f} GBP in {len(e.ledger)} entries of the gateway",
        _money_conserved,
    ),
    (
        "no effect happened twice",
        lambda e: f"{len(e.reservations)} reservations, {len(e.payments)} payments, {len(e.parcels)} parcels",
        _no_effect_twice,
    ),
    (
        "cancelled orders were compensated for exactly what was done",
        lambda e: f"{len(e.with_status('cancelled'))} orders",
        _undone_exactly,
    ),
    (
        "confirmed orders have exactly their goods, payment and parcel",
        lambda e: f"{len(e.with_status('confirmed'))} orders",
        _fulfilled_exactly,
    ),
)
