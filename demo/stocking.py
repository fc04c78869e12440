"""What lies on the shelves before the first order: four fifths of what the orders ask for, so that some come too late."""

from __future__ import annotations

from collections.abc import Mapping

DELIVER = "INSERT INTO items (sku, on_hand) VALUES (?, ?)"
"""Puts one item into stock's own table; the marks are SQLite's."""


def opening_stock(demand: Mapping[str, int]) -> dict[str, int]:
    """80 % of each item's demand, rounded up: an item of which at most four are wanted is never short."""
    return {sku: -(-units * 4 // 5) for sku, units in sorted(demand.items())}
