"""What stock asks of its database, SQLite or PostgreSQL, which differ in two things.

The marks of parameters are SQLite's, `?`; psycopg's are `%s`. PostgreSQL locks rows for those who ask for it; SQLite cannot,
and need not: no two of its writing transactions are open at a time.
"""

from __future__ import annotations

import sqlite3

from saga import Transaction
from saga.store.port import Result

LOCKING = " FOR UPDATE"
ON_HAND = "SELECT on_hand FROM items WHERE sku = ? FOR UPDATE"
SET_ASIDE = "UPDATE items SET on_hand = on_hand - ?, reserved = reserved + ? WHERE sku = ?"
RESERVE = "INSERT INTO reservations (order_id, sku, quantity, status) VALUES (?, ?, ?, 'reserved')"
RESERVED = "SELECT sku, quantity FROM reservations WHERE order_id = ? AND status = 'reserved' ORDER BY sku"
PUT_BACK = "UPDATE items SET on_hand = on_hand + ?, reserved = reserved - ? WHERE sku = ?"
RELEASE = "UPDATE reservations SET status = 'released' WHERE order_id = ? AND status = 'reserved'"


def run(tx: Transaction, statement: str, *parameters: object) -> Result:
    """Execute one of these statements, written as the transaction's driver wants it."""
    return tx.execute(statement.removesuffix(LOCKING) if _on_sqlite(tx) else statement.replace("?", "%s"), parameters)


_DRIVERS: dict[type[Transaction], bool] = {}


def _on_sqlite(tx: Transaction) -> bool:
    """Looked at once for each class of transaction, since asking for the connection costs a round trip."""
    kind = type(tx)
    if kind not in _DRIVERS:
        _DRIVERS[kind] = isinstance(tx.connection, sqlite3.Connection)
    return _DRIVERS[kind]
