"""The quickest of the faults that `make faults` plays, on servers of their own: nothing is lost, repeated or left undone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.fault import Fault
from faults.run import FAULTS, WORKLOADS, play
from faults.scene import Servers, serving
from faults.workload import Workload
from tests.serving import missing_is_told

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with missing_is_told({}), serving(print) as found:
        yield found


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.quick], ids=lambda fault: fault.id)
def test_a_fault_under_load_violates_nothing(fault: Fault, workload: type[Workload], servers: Servers, tmp_path: Path) -> None:
    outcome = play(fault, workload, servers, tmp_path)

    assert outcome.against == []
    assert outcome.judgement.workflows == outcome.sent > 10
    assert outcome.recovery is not None
