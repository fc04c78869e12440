from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import Commands, written
from tests.travel import saga


@pytest.fixture
def contracts(tmp_path: Path) -> Commands:
    """Commands beside a folder `contracts` of the travel saga."""
    travel = saga()
    own = [schema for name, schema in travel.types.items() if not name.startswith("saga.")]
    written(tmp_path / "contracts", [travel.own, *own])
    return Commands(tmp_path)
