"""An order as the shop's API takes it, and the invoice it came from: what every source of the demo yields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """`unit_price` is in pence."""

    sku: str
    quantity: int
    unit_price: int


@dataclass(frozen=True, slots=True)
class Order:
    """`customer_id` is None for a guest."""

    order_id: str
    customer_id: str | None
    country: str
    lines: tuple[Line, ...]

    @property
    def total(self) -> int:
        return sum(line.quantity * line.unit_price for line in self.lines)

    def json(self) -> dict[str, Any]:
        """The body of `POST /orders`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Invoice:
    """One invoice of a source: an order, or the reason why it is none. `dropped` counts lines left out, by reason."""

    number: str
    lines: int
    order: Order | None = None
    refused: str | None = None
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Intake:
    """What a source holds, counted: every invoice is ordered or refused, every line kept, dropped or refused with its invoice.

    `totals` maps order ids to pence, `demand` items to the units that the orders ask for.
    """

    invoices: int = 0
    lines: int = 0
    kept: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    refused_lines: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    totals: dict[str, int] = field(default_factory=dict)
    demand: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, invoices: Iterable[Invoice]) -> Intake:
        intake = cls()
        for invoice in invoices:
            intake._add(invoice)
        return intake

    @property
    def ordered(self) -> int:
        return len(self.totals)

    def _add(self, invoice: Invoice) -> None:
        self.invoices += 1
        self.lines += invoice.lines
        if invoice.order is None:
            self.refused[invoice.refused or "no reason"] += 1
            self.refused_lines += invoice.lines
            return
        self.dropped += invoice.dropped
        self.kept += len(invoice.order.lines)
        self.totals[invoice.order.order_id] = invoice.order.total
        for line in invoice.order.lines:
            self.demand[line.sku] += line.quantity
