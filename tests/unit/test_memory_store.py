"""What the store in memory holds of the process besides its dictionaries."""

from __future__ import annotations

import gc
import sqlite3

import pytest

from saga.store.memory import MemoryStore


def test_a_store_that_nobody_closed_ends_with_the_object() -> None:
    store = MemoryStore()
    connection = store.connection

    del store
    gc.collect()

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
