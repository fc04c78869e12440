"""What `docs/vectorised.md` shows is so."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from drills.blocks import blocks
from saga.participant.handler import Act
from saga.store.memory import MemoryStore
from tests.sources import ROOT

PAGE = ROOT / "docs" / "vectorised.md"


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the page's code leaves."""
    monkeypatch.chdir(ROOT)
    file = tmp_path / "shown.py"
    file.write_text("\n".join(block.text for block in blocks(PAGE) if block.language == "python"))
    return runpy.run_path(str(file))


def test_the_step_that_is_shown_does_for_all_what_it_says(shown: dict[str, Any]) -> None:
    with MemoryStore().transaction() as tx:
        tx.execute("CREATE TABLE orders (order_id TEXT, status TEXT)")
        tx.execute("INSERT INTO orders VALUES ('o-1', 'placed'), ('o-2', 'placed'), ('o-3', 'placed')")
        parcels = [shown["ParcelDispatched"](order_id=id, parcel=f"parcel of {id}") for id in ("o-3", "o-1")]

        confirmed = shown["confirm"](parcels, tx)

        assert [one.parcel for one in confirmed] == ["parcel of o-3", "parcel of o-1"]
        statuses = dict(tx.execute("SELECT order_id, status FROM orders").fetchall())
        assert statuses == {"o-1": "confirmed", "o-2": "placed", "o-3": "confirmed"}
    assert shown["orders"].handlers[1, "confirm", Act.ACTION].batch
