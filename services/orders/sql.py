"""What orders asks of its database. The marks of parameters are SQLite's, `?`; psycopg's are `%s`, all else is the same."""

from __future__ import annotations

import sqlite3

from saga import Transaction
from saga.store.port import Result

PLACE = """
INSERT INTO orders (order_id, workflow_id, request, total, status) VALUES (?, ?, ?, ?, 'placed')
ON CONFLICT (order_id) DO NOTHING
"""
FIND = "SELECT workflow_id, request, status, parcel FROM orders WHERE order_id = ?"
CONFIRM = "UPDATE orders SET status = 'confirmed', parcel = ? WHERE order_id = ?"
CANCEL = "UPDATE orders SET status = 'cancelled' WHERE order_id = ?"


def run(tx: Transaction, statement: str, *parameters: object) -> Result:
    """Execute one of these statements, written as the transaction's driver wants it."""
    return tx.execute(statement if _on_sqlite(tx) else statement.replace("?", "%s"), parameters)


_DRIVERS: dict[type[Transaction], bool] = {}


def _on_sqlite(tx: Transaction) -> bool:
    """Looked at once for each class of transaction, since asking for the connection costs a round trip."""
    kind = type(tx)
    if kind not in _DRIVERS:
        _DRIVERS[kind] = isinstance(tx.connection, sqlite3.Connection)
    return _DRIVERS[kind]
