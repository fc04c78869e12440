"""The demo's orders as a load: four services, an API before them, a payment gateway behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import ClassVar

from demo import sample
from demo.audit import Finding, audit
from demo.feed import Feed
from demo.ground import Ground
from demo.order import Intake, Order
from demo.real import Real
from demo.stocking import opening_stock
from faults.workload import PATIENCE, Settings, Workload

INVOICES = [*islice((invoice for invoice in sample.invoices() if invoice.order), 500)]


class Checkout(Workload):
    """Units of stock and pence are conserved, and the gateway's ledger agrees."""

    name, one, kind = "checkout", "orders", Real
    victim, external = "stock", "payments"
    opening: ClassVar[Mapping[str, int]] = opening_stock(Intake.of(INVOICES).demand)

    def __init__(self, home: Path, ground: Ground, settings: Settings) -> None:
        super().__init__(home, ground, settings)
        self._sent: list[Order] = []

    @property
    def sent(self) -> int:
        return len(self._sent)

    def send(self, turns: Iterator[int]) -> None:
        feed = Feed(self.fleet.url, self.fleet.books, patience=PATIENCE, open_limit=10_000)
        feed.send(order for _, order in zip(turns, self._orders(), strict=False))

    def _orders(self) -> Iterator[Order]:
        for number in count():
            for invoice in INVOICES:
                assert invoice.order is not None
                self._sent.append(replace(invoice.order, order_id=f"{invoice.order.order_id}-{number}"))
                yield self._sent[-1]

    def findings(self) -> list[Finding]:
        totals = {order.order_id: order.total for order in self._sent}
        return audit(self.fleet.books, opening=self.opening, totals=totals)
