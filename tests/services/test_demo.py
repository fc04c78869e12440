"""The main job as its user runs it: processes, the embedded broker, the audit; and that it leaves nothing running."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.books import ROOT
from demo.fleet import Fleet, FleetError
from demo.retail import HEADER
from tests.waiting import until

RETAIL = ROOT.parent / "shared" / "data" / "online-retail-2010-12.csv.gz"
FAILURES = ("out of stock", "payment declined", "no courier")
SOON = 15.0
"""Seconds in which everything has ended: three times of what it may take where nothing else is at work."""

pytestmark = pytest.mark.slow


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=220, check=False)


@contextmanager
def running(*options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "demo", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """What the process has told on stderr, up to the line in which the pattern occurs."""
    assert process.stderr is not None
    told = ""
    for line in process.stderr:
        told += line
        if re.search(pattern, line):
            return told
    pytest.fail(f"the demo ended before it told {pattern!r}:\n{told}")


def children(parent: int) -> list[int]:
    """The fleet's processes; only a running demo has them."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def alive(pids: list[int]) -> list[int]:
    """A process that has ended and that nobody has asked for its status counts as dead."""
    return [pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text()]


def home(told: str) -> Path:
    """Where the run keeps its files."""
    [found] = re.findall(r"starting the fleet in (\S+)", told)
    return ROOT / str(found)


def few_orders(folder: Path) -> str:
    file = folder / "few.csv"
    rows = [f"{number},MUG,a mug,2,01/12/2010 08:26,2.50,17850,Spain" for number in range(1, 21)]
    rows.append("21,LAMP,comes back since no courier takes it,4,01/12/2010 08:26,2.50,17850,Germany")
    file.write_text("\n".join([",".join(HEADER), *rows]))
    return str(file)


def count(report: dict[str, Any], failure: str) -> int:
    return sum(outcome["workflows"] for name, outcome in report["outcomes"].items() if failure in name)


def test_the_sample_ends_with_a_clean_audit_and_every_kind_of_failure() -> None:
    done = run("--json")

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["clean"]
    assert all(finding["holds"] for finding in report["audit"])
    assert sum(outcome["workflows"] for outcome in report["outcomes"].values()) == 500
    assert {failure: count(report, failure) >= 10 for failure in FAILURES} == dict.fromkeys(FAILURES, True)
    assert report["outcomes"]["cancelled: payment declined"]["unwound"] >= 10
    assert not home(done.stderr).exists()


def test_every_invoice_of_the_retail_file_is_accounted_for() -> None:
    if not RETAIL.exists():
        assert "CI" not in os.environ, f"{RETAIL} is missing: in CI this test may not be skipped"
        pytest.skip(f"{RETAIL} is not here: get December 2010 of the UCI Online Retail data set")

    done = run("--json", "--orders", str(RETAIL))

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["invoices"] == {"total": 1893, "ordered": 1456, "refused": {"cancellation": 299, "no valid line": 138}}
    assert report["lines"]["dropped"] == {"price not positive": 64, "truncated row": 1}
    assert sum(outcome["workflows"] for outcome in report["outcomes"].values()) == 1456
    assert {failure: count(report, failure) >= 10 for failure in FAILURES} == dict.fromkeys(FAILURES, True)
    assert report["outcomes"]["cancelled: payment declined"]["unwound"] > 0
    assert report["clean"]


def test_orders_that_cannot_be_read_end_it_before_anything_is_started(tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text("a,b,c\n1,2,3\n")

    done = run("--orders", str(file))

    assert done.returncode == 2
    assert "found the header a, b, c; expected InvoiceNo" in done.stderr
    assert "starting" not in done.stderr


def test_a_file_without_a_sale_is_refused_with_the_reasons(tmp_path: Path) -> None:
    file = tmp_path / "returns.csv"
    file.write_text(",".join(HEADER) + "\nC1,MUG,a mug,-1,01/12/2010 08:26,2.50,17850,Spain\n")

    done = run("--orders", str(file))

    assert done.returncode == 2
    assert "none of its 1 invoices can be ordered (cancellation)" in done.stderr


def test_a_fleet_that_is_kept_takes_orders_until_ctrl_c_and_then_is_gone_soon(tmp_path: Path) -> None:
    with running("--keep", "--orders", few_orders(tmp_path)) as demo:
        told = read_until(demo, r"show \S+")
        fleet = children(demo.pid)
        [curl] = re.findall(r"curl -s (\S+) -H '(.*)' -d '(.*)'", told)
        [(database, *show)] = re.findall(r"SAGA_DATABASE=(\S+) (\S+) (show) (\S+)", told)

        answer = httpx.post(curl[0], content=curl[2], headers=[tuple(curl[1].split(": "))], timeout=60)
        order = f"{curl[0]}/{answer.json()['order_id']}"
        until(lambda: httpx.get(order, timeout=60).json()["status"] == "confirmed", what="the order to be confirmed")

        shown = subprocess.run(show, env={"SAGA_DATABASE": database}, capture_output=True, text=True, check=False)

        assert shown.returncode == 0, shown.stderr
        assert answer.json()["workflow_id"] in shown.stdout
        assert "COMPLETED" in shown.stdout
        assert len(fleet) == len(alive(fleet)) == 6
        demo.send_signal(signal.SIGINT)
        assert demo.wait(SOON) == 0
        assert alive(fleet) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "terminated"])
def test_a_demo_that_is_stopped_at_work_leaves_nothing_running(number: signal.Signals, status: int) -> None:
    with running() as demo:
        told = read_until(demo, r"^sent ")
        fleet = children(demo.pid)

        demo.send_signal(number)

        assert demo.wait(SOON) == status
        assert len(fleet) == 6
        assert alive(fleet) == []
        assert not home(told).exists()


def test_a_demo_that_is_killed_outright_leaves_nothing_running() -> None:
    with running() as demo:
        told = read_until(demo, r"^sent ")
        fleet = children(demo.pid)

        demo.kill()

        until(lambda: not alive(fleet), what="the fleet to follow its owner")
        shutil.rmtree(home(told))
        assert len(fleet) == 6


def test_a_process_that_does_not_come_up_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, opening={})
    try:
        fleet.prepare()
        fleet.start("broker")
        fleet.wait_ready("broker")
        fleet.start("stock", {"SAGA_THREADS": "none"})

        with pytest.raises(FleetError) as caught:
            fleet.wait_ready("stock")

        assert "stock: ended with status 2" in str(caught.value)
        assert "SAGA_THREADS: found 'none'" in str(caught.value)
    finally:
        fleet.stop()


def test_a_service_that_is_killed_and_started_again_goes_on(tmp_path: Path) -> None:
    with Fleet(tmp_path, opening={}) as fleet:
        fleet.processes["shipping"].kill()

        assert fleet.wait_dead("shipping") == -signal.SIGKILL
        with pytest.raises(FleetError, match="shipping: ended with status -9"):
            fleet.require_alive()
        fleet.restart("shipping")
        fleet.require_alive()
