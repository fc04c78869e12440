"""Two steps of one participant, one after the other, under seeded trouble: each is undone, or told as passed over."""

from __future__ import annotations

import pytest

from saga import Retry, Transaction
from saga.testing.simulation.simulation import Simulation
from tests.kitchen import CREATE_UNDONE, Placed, participants
from tests.seeds import some_slow


def prepare(_: str, tx: Transaction) -> None:
    tx.execute(CREATE_UNDONE)


# at seed 2 what was passed over is undone after all, at 6 and 27 the workflow ends while it is tried once more
@pytest.mark.parametrize("seed", some_slow([2, 6, 27, *range(30, 40)], 3))
@pytest.mark.parametrize("batch", [False, True], ids=["one by one", "vectorised"])
@pytest.mark.parametrize("on_stuck", ["wait", "continue"])
@pytest.mark.parametrize("payer", ["bank", "kitchen"])
def test_each_of_two_steps_is_undone_or_passed_over_in_turn(payer: str, on_stuck: str, batch: bool, seed: int) -> None:
    crew = participants(set(), Retry(attempts=2, quick=0, first=5), on_stuck, batch=batch, payer=payer)

    run = Simulation(crew, begin=lambda number: Placed(order_id=f"order {number}"), prepare=prepare).run(seed)

    assert [str(violation) for violation in run.violations] == []
