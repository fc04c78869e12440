"""Every page for whoever is on call, followed by its drill on a fleet in which that state was caused for real.

Drills that ask nothing special of the contracts share a fleet, one after the other: each leaves it with its books in order. It
is the last one, so that it does not run beside the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.real import real
from drills.__main__ import NAMES, drill
from drills.drill import Drill
from drills.scene import Scene, staged

pytestmark = pytest.mark.slow

DRILLS = [drill(name) for name in NAMES]
SHARED = [one for one in DRILLS if one.is_ordinary]
REAL = [one for one in DRILLS if one.real]
ALONE = [one for one in DRILLS if not one.is_ordinary and not one.real]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with staged(tmp_path_factory.mktemp("drills")) as scene:
        yield scene


@pytest.mark.parametrize("one", ALONE, ids=lambda one: one.name)
def test_the_page_holds_on_a_fleet_of_its_own(one: Drill, tmp_path: Path) -> None:
    with staged(tmp_path, timeout=one.timeout, deadline=one.deadline) as scene:
        one.check(scene)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("one", REAL, ids=lambda one: one.name)
def test_the_page_holds_on_real_servers(one: Drill, kafka: str, postgres: str, registry: str, tmp_path: Path) -> None:
    with (
        real(tmp_path, {"kafka": kafka, "postgres": postgres, "registry": registry}, print) as ground,
        staged(tmp_path, ground, timeout=one.timeout, deadline=one.deadline) as scene,
    ):
        one.check(scene)


@pytest.mark.parametrize("one", SHARED, ids=lambda one: one.name)
def test_the_page_holds_and_the_books_are_in_order_afterwards(one: Drill, scene: Scene) -> None:
    one.check(scene)
