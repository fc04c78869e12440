from __future__ import annotations

from collections import Counter

from demo.order import Intake, Order
from demo.sample import invoices
from demo.stocking import opening_stock
from services.payments.client import PaymentsSettings
from services.shipping.couriers import couriers


def sample() -> list[Order]:
    return [invoice.order for invoice in invoices() if invoice.order]


def in_stock_for_certain(order: Order, opening: dict[str, int], demand: Counter[str]) -> bool:
    """Whether all orders for these items can be served, so that this one is, whatever comes first."""
    return all(opening[line.sku] >= demand[line.sku] for line in order.lines)


def test_the_sample_is_the_same_every_time_and_other_seeds_differ() -> None:
    assert list(invoices(1)) == list(invoices(1))
    assert list(invoices(1)) != list(invoices(2))


def test_all_of_its_invoices_can_be_ordered() -> None:
    intake = Intake.of(invoices())

    assert intake.ordered == intake.invoices == 500
    assert not intake.refused
    assert not intake.dropped


def test_each_failure_occurs_at_least_ten_times_whatever_the_order_of_events() -> None:
    orders, demand = sample(), Intake.of(invoices()).demand
    opening, limit, served = opening_stock(demand), PaymentsSettings().guest_limit, couriers()
    in_stock = [order for order in orders if in_stock_for_certain(order, opening, demand)]

    declined = [order for order in in_stock if order.customer_id is None and order.total > limit]
    refused = [order for order in in_stock if order.customer_id is not None and order.country not in served]

    assert len(declined) >= 10
    assert len(refused) >= 10
    assert least_shortages(orders, opening, demand) >= 10


def least_shortages(orders: list[Order], opening: dict[str, int], demand: Counter[str]) -> int:
    """A lower bound: each short item is missed by some order, and one order misses no more items than it names."""
    largest = Counter[str]()
    for order in orders:
        wanted = Counter[str]()
        for line in order.lines:
            wanted[line.sku] += line.quantity
        largest |= wanted
    misses = sum(-(-(demand[sku] - units) // largest[sku]) for sku, units in opening.items())
    return misses // max(len({line.sku for line in order.lines}) for order in orders)


def test_no_everyday_order_fails_for_any_other_reason_than_stock() -> None:
    demand, limit, served = Intake.of(invoices()).demand, PaymentsSettings().guest_limit, couriers()
    opening = opening_stock(demand)

    everyday = [order for order in sample() if not in_stock_for_certain(order, opening, demand)]

    assert len(everyday) == 440
    assert all(order.country in served for order in everyday)
    assert not [order for order in everyday if order.customer_id is None and order.total > limit]


def test_opening_stock_is_four_fifths_of_the_demand_rounded_up() -> None:
    assert opening_stock({"A": 1, "B": 4, "C": 5, "D": 6, "E": 100}) == {"A": 1, "B": 4, "C": 4, "D": 5, "E": 80}
