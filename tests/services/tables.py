"""A service's own tables in a store without a file, for tests that call its handlers as plain functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saga import Transaction
from saga.store.memory import MemoryStore

SERVICES = Path(__file__).parents[2] / "services"


@contextmanager
def transaction(service: str, *statements: str) -> Iterator[Transaction]:
    """An open transaction on the service's tables, after these statements."""
    with MemoryStore().transaction() as tx:
        for statement in (SERVICES / service / "tables.sql").read_text().split(";"):
            tx.execute(statement)
        for statement in statements:
            tx.execute(statement)
        yield tx
