"""The demo's own orders: made up from a seed, so that every run has the same.

Everyday orders compete for everyday items, of which four fifths are in stock: some come too late. Pieces of furniture are
wanted at most four times, so they are never short, and all doomed orders are for furniture: whatever order events arrive in,
guests above their limit and countries without a courier fail for just that reason, after the goods were set aside.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from demo.order import Invoice, Line, Order

SEED = 20101201
EVERYDAY, GUESTS, FAR_AWAY = 440, 30, 30
SERVED = ("United Kingdom",) * 12 + ("EIRE", "Norway", "Belgium", "Spain", "Japan")
UNSERVED = ("Germany", "France", "Brazil")
ITEMS = [f"{stuff}-{thing}" for stuff in ("TIN", "OAK", "WOOL", "GLASS") for thing in ("MUG", "TRAY", "LAMP", "BOWL", "BELL")]
PIECES = [f"{style}-{piece}" for style in ("TUDOR", "DECO", "LOFT") for piece in ("WARDROBE", "DESK", "CHEST", "BENCH", "BED")]
WANTED_PER_PIECE = 4


def invoices(seed: int = SEED) -> Iterator[Invoice]:
    """500 invoices, all of which can be ordered."""
    random = Random(seed)  # noqa: S311 - a sample has to be the same at every run, not secret
    prices = {sku: random.randrange(99, 1999) for sku in ITEMS} | {sku: random.randrange(501_00, 999_00) for sku in PIECES}
    pieces = [sku for sku in PIECES for _ in range(WANTED_PER_PIECE)]
    random.shuffle(pieces)
    kinds = ["everyday"] * EVERYDAY + ["guest"] * GUESTS + ["far away"] * FAR_AWAY
    random.shuffle(kinds)
    for number, kind in enumerate(kinds, start=1):
        order_id = f"S{number:05}"
        if kind == "everyday":
            order = _everyday(order_id, random, prices)
        else:
            sku = pieces.pop()
            order = Order(
                order_id,
                None if kind == "guest" else _customer(random),
                random.choice(UNSERVED if kind == "far away" else SERVED),
                (Line(sku, 1, prices[sku]),),
            )
        yield Invoice(order_id, len(order.lines), order)


def _everyday(order_id: str, random: Random, prices: dict[str, int]) -> Order:
    """One to six lines, now and then the same item twice; every fourth customer is a guest, who stays below the limit."""
    lines = tuple(Line(sku, random.randint(1, 4), prices[sku]) for sku in random.choices(ITEMS, k=random.randint(1, 6)))
    below_limit = sum(line.quantity * line.unit_price for line in lines) <= 500_00
    guest = random.random() < 0.25 and below_limit
    return Order(order_id, None if guest else _customer(random), random.choice(SERVED), lines)


def _customer(random: Random) -> str:
    return f"{random.randrange(10_000, 20_000)}"
