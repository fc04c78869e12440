"""SIGKILL at every registered failpoint on real Kafka and PostgreSQL: group members whose lanes others have to wait for.

All services die in every run, each at another place, so that every place is tried in several of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import pytest

from demo.books import SERVICES
from demo.fleet import Fleet
from demo.real import Real, real
from saga.failpoints import Failpoint
from tests.crash.killing import EVERYWHERE, OPENING, false_claims, run_to_the_end

pytestmark = pytest.mark.slow


@pytest.fixture
def ground(kafka: str, postgres: str, registry: str, tmp_path: Path) -> Iterator[Real]:
    """Topics and databases of this test's own, on the servers of all."""
    with real(tmp_path, {"kafka": kafka, "postgres": postgres, "registry": registry}, print) as ground:
        yield ground


def _places(first: Failpoint) -> dict[str, Failpoint]:
    """Payments dies at `first`, each other service at one of the places that follow it."""
    after = EVERYWHERE.index(first) + 1 if first in EVERYWHERE else 0
    others = [service for service in SERVICES if service != "payments"]
    return {"payments": first, **dict(zip(others, islice(cycle(EVERYWHERE), after, None), strict=False))}


@pytest.mark.parametrize("place", Failpoint, ids=str)
def test_a_fleet_killed_at_these_places_loses_nothing_and_does_nothing_twice(
    place: Failpoint, ground: Real, tmp_path: Path
) -> None:
    fleet, places = Fleet(tmp_path, opening=OPENING, ground=ground), _places(place)

    killed = run_to_the_end(fleet, places)

    assert killed == set(places)
    assert false_claims(fleet) == []
