"""The whole engine under seeded trouble on any saga whatever: a contract may have a shape that nobody thought of."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saga import Retry
from saga.engine import loop
from saga.handling import handling
from saga.protocol.definition import Definition
from saga.testing.simulation.simulation import Simulation
from tests.drawn import crew
from tests.simulation.sagas import sound_sagas

SEEDS = st.integers(0, 2**32)
FEW = settings(max_examples=4, derandomize=True, database=None)
MANY = settings(max_examples=120, derandomize=True, database=None)


def keeps_every_promise(saga: Definition, seed: int, *, liveness: bool) -> None:
    retry = None if liveness else Retry(attempts=2, quick=seed % 2, first=5)

    with pytest.MonkeyPatch.context() as patch:
        if seed % 3 == 0:  # as if handlers took long: one record for each transaction, one transaction for each turn of a lane
            patch.setattr(handling, "PATIENCE", -1.0)
            patch.setattr(loop, "TURN", -1.0)
        run = Simulation(crew(saga, seed, retry), workflows=4, acts=80, liveness=liveness).run(seed)

    assert [str(violation) for violation in run.violations] == []


@FEW
@given(sound_sagas(most=6), SEEDS, st.booleans())
def test_any_saga_keeps_every_promise(saga: Definition, seed: int, liveness: bool) -> None:
    keeps_every_promise(saga, seed, liveness=liveness)


@pytest.mark.slow
@MANY
@given(sound_sagas(most=8), SEEDS, st.booleans())
def test_many_sagas_keep_every_promise(saga: Definition, seed: int, liveness: bool) -> None:
    keeps_every_promise(saga, seed, liveness=liveness)
