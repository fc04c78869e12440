"""`python -m faults`: plays every fault on real servers and writes what came of it; `--soak` plays random ones for a while."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from demo.books import ROOT
from demo.feed import FeedError
from demo.fleet import FleetError
from faults import measured, soak
from faults.fault import Fault
from faults.measured import Run, Setting
from faults.report import document, machine
from faults.run import FAULTS, WORKLOADS, play
from faults.scene import RATE, FaultFailed, Outcome, serving
from faults.workload import Workload
from saga.errors import SagaError
from servers.errors import ServerFailed, ServerMissing

HOME = ROOT / ".demo"
DOCUMENT = ROOT / "docs" / "reliability.md"
SHOWN = 5


class Page(StrEnum):
    """How what is found comes into the page: in place of earlier runs of the same fault, or beside them."""

    INSTEAD = "instead"
    BESIDE = "beside"


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def run(
    only: Annotated[list[str] | None, typer.Option("--only", metavar="F-12", help="This one alone; repeatable.")] = None,
    workload: Annotated[list[str] | None, typer.Option("--workload", metavar="bank|checkout", help="By default both.")] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="So often each.")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="So many at a time, each with servers of its own.")] = 1,
    minutes: Annotated[
        float | None, typer.Option("--soak", metavar="MINUTES", min=0.1, help="Random faults for so long.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of a soak, to have the same faults again.")] = None,
    page: Annotated[
        Page | None, typer.Option("--page", help="Into docs/reliability.md, instead of what it has or beside.")
    ] = None,
    busy: Annotated[bool, typer.Option("--busy", help="Say there that the machine has other work to do.")] = False,
) -> None:
    """Play faults on real servers; exits 1 if anything is violated. Runs of all are written into docs/reliability.md anyway."""
    _refuse_unheeded(minutes is not None, {"--only": only, "--page": page, "--busy": busy}, seed)
    _refuse_unknown("fault", only, [fault.id for fault in FAULTS])
    _refuse_unknown("workload", workload, [*WORKLOADS])
    kinds = [kind for name, kind in WORKLOADS.items() if not workload or name in workload]
    faults = [fault for fault in FAULTS if not only or fault.id in only]
    HOME.mkdir(exist_ok=True)
    try:
        if minutes is not None:
            _soaks(kinds, minutes, random.SystemRandom().randrange(10**6) if seed is None else seed)
            return
        setting = Setting(f"{datetime.now(UTC):%Y-%m-%d}", machine(), jobs, busy)
        page = page or (None if only or workload else Page.INSTEAD)
        found: list[Run] = []
        for one in _try_all(faults, kinds, runs, jobs, setting):
            found += one
            if page is not None:  # as it goes: a run that is interrupted has found something too
                _keep(one, page)
    except (ServerMissing, ServerFailed) as error:
        _fail(str(error), 1)
    if not all(run.holds for run in found):
        raise typer.Exit(1)


def _keep(found: list[Run], page: Page) -> None:
    """Found are runs of one fault in one workload."""
    anew = {(run.fault, run.workload) for run in found} if page is Page.INSTEAD else set()
    kept = [*(run for run in measured.read() if (run.fault, run.workload) not in anew), *found]
    measured.write(kept)
    DOCUMENT.write_text(document(kept, RATE))


def _refuse_unheeded(soak: bool, of_runs: Mapping[str, object], seed: int | None) -> None:
    """A soak draws its faults, and a list of faults draws nothing."""
    if soak and (given := [name for name, value in of_runs.items() if value]):
        _fail(f"found --soak with {' and '.join(given)}; a soak draws its faults and leaves the page alone: leave one out", 2)
    if not soak and seed is not None:
        _fail("found --seed without --soak; only a soak draws its faults: add --soak MINUTES, or leave it out", 2)


def _refuse_unknown(what: str, asked: list[str] | None, known: list[str]) -> None:
    if unknown := sorted({*(asked or ())} - {*known}):
        _fail(f"there is no {what} {', '.join(unknown)}; there are {', '.join(known)}", 2)


def _try_all(faults: list[Fault], kinds: list[type[Workload]], runs: int, jobs: int, setting: Setting) -> Iterator[list[Run]]:
    """What came of each, in the order in which it came; faults that befall nobody in a workload are left out."""
    with ThreadPoolExecutor(jobs) as pool:
        asked = [
            pool.submit(_try, fault, kind, runs, setting) for fault in faults for kind in kinds if fault.touched.among(kind)
        ]
        for one in as_completed(asked):
            yield one.result()


def _try(fault: Fault, kind: type[Workload], runs: int, setting: Setting) -> list[Run]:
    """None where this machine lacks the means."""
    about = f"{fault.id:<5} {kind.name:<8}"
    if why := fault.lacking():
        _tell(f"{about} NOT INJECTED HERE  {fault.text}: {why}")
        return []
    return [Run.of(fault.id, kind.name, setting, _once(fault, kind, about)) for _ in range(runs)]


def _once(fault: Fault, kind: type[Workload], about: str) -> Outcome | str:
    """A run has servers of its own: what one of them did to its servers is not the next one's business."""
    home = Path(tempfile.mkdtemp(prefix=f"{fault.id}-{kind.name}-", dir=HOME))
    try:
        with serving(_tell) as servers:
            outcome = play(fault, kind, servers, home)
    except ServerMissing:
        raise
    except Exception as error:  # one run that breaks must not cost what the others have found
        _tell(f"{about} FAILED  {fault.text}: {error}")
        return str(error)
    _told(about, fault.text, outcome, home)
    return outcome


def _soaks(kinds: list[type[Workload]], minutes: float, seed: int) -> None:
    """The time is shared among the workloads; exits 1 if anything is violated."""
    _tell(f"{minutes:g} minutes of random faults, seed {seed}")
    if not all([_soak(kind, minutes / len(kinds), seed) for kind in kinds]):
        raise typer.Exit(1)


def _soak(kind: type[Workload], minutes: float, seed: int) -> bool:
    home = Path(tempfile.mkdtemp(prefix=f"soak-{kind.name}-", dir=HOME))
    try:
        with serving(_tell) as servers:
            outcome = soak.play(kind, servers, home, minutes * 60, seed, _tell)
    except (FaultFailed, FleetError, FeedError, SagaError) as error:
        _fail(f"seed {seed}: {error}", 1)
    _told(f"soak  {kind.name:<8}", f"seed {seed}", outcome, home)
    return not outcome.against


def _told(about: str, text: str, outcome: Outcome, home: Path) -> None:
    """Say what came of it; the files of a run that broke something stay."""
    recovery = f", all lanes after {outcome.recovery.every:.1f} s" if outcome.recovery else ""
    verdict = f"{len(outcome.against)} VIOLATIONS" if outcome.against else "holds"
    _tell(f"{about} {verdict}  {text}: {outcome.judgement.workflows} workflows{recovery}")
    for against in outcome.against[:SHOWN]:
        _tell(f"      {against}")
    if outcome.against:
        _tell(f"      logs are in {home}")
    else:
        shutil.rmtree(home)


def _tell(text: str) -> None:
    typer.echo(text, err=True)


def _fail(reason: str, code: int) -> None:
    _tell(f"error: {reason}")
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
