"""Memory while many events are read: it depends on how many workflows are open, not on how many there were."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.sources import ROOT

EVENTS = 100_000

READING = """
import sys
from pathlib import Path
from tests.histories import ListSource, lived, records
from tests.travel import saga
from saga.replay.contracts import Contracts
from saga.replay.gathering import histories
from saga.replay.state import state

travel, events = Contracts([saga()]), int(sys.argv[1])
with lived() as fleet:
    smooth = [record for record in records(fleet.broker) if record.key == b"smooth"]

def copies():
    for n in range(events // len(smooth)):
        name = b"w%d" % n
        for record in smooth:
            headers = [(k, name + v if k in ("ce_id", "ce_causationid") else name if k == "ce_subject" else v)
                       for k, v in record.headers]
            yield record._replace(key=name, headers=headers)


told = sum(state(travel, one).closed is not None for one in histories(ListSource(copies()), travel))
[peak] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(told, int(peak.split()[1]) // 1024)  # ru_maxrss would be that of the process that started this one, if that was larger
"""


@pytest.mark.slow
def test_closed_workflows_are_forgotten() -> None:
    command = [sys.executable, "-c", READING, str(EVENTS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=220, check=True)

    told, peak = map(int, done.stdout.split())
    assert told == EVENTS // 5
    assert peak < 300, f"{peak} MB"
