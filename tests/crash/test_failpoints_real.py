"""SIGKILL at every registered failpoint on real Kafka and PostgreSQL: group members whose lanes others have to wait for.

All services die again and again, at the same time at different places, until each has at all that it passes.
"""

from __future__ import annotations

from collections.abc import Iterator
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


def _places() -> dict[str, list[Failpoint]]:
    """Payments begins with the first, each other service with one that follows."""
    others = [service for service in SERVICES if service != "payments"]
    turned = {service: [*EVERYWHERE[turn:], *EVERYWHERE[:turn]] for turn, service in enumerate(others, start=1)}
    return {"payments": [*Failpoint], **turned}


@pytest.mark.timeout(400)
def test_a_fleet_killed_at_these_places_loses_nothing_and_does_nothing_twice(ground: Real, tmp_path: Path) -> None:
    fleet, places = Fleet(tmp_path, opening=OPENING, ground=ground), _places()

    died = run_to_the_end(fleet, places)

    assert died == places
    assert false_claims(fleet) == []
