"""The simulator is only worth what it finds: bugs planted in the engine, each caught within two hundred seeds.

The engine as it is keeps all its promises over seeds of the very same world (`test_simulator.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from saga.testing.simulation.simulation import Run
from tests.planted import (
    Patch,
    events_pass_a_failed_one,
    inbox_before_handler,
    offsets_before_the_database,
    open_workflows_pruned,
    pivot_ignored,
    pruned_and_not_remembered,
    sequence_outside_the_lock,
)
from tests.travel import simulation

SEEDS = range(200)

BUGS = [
    inbox_before_handler,
    pivot_ignored,
    sequence_outside_the_lock,
    events_pass_a_failed_one,
    offsets_before_the_database,
    open_workflows_pruned,
    pruned_and_not_remembered,
]


@pytest.mark.slow
@pytest.mark.parametrize("plant", BUGS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    plant(monkeypatch)

    found = _first_broken()

    assert found is not None


def _first_broken() -> Run | None:
    simulated = simulation()
    return next((run for run in map(simulated.run, SEEDS) if run.violations), None)
