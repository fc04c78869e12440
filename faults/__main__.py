"""`python -m faults`: plays every fault on real servers and writes what came of it; `--soak` plays random ones for a while."""

from __future__ import annotations

import random
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from demo.books import ROOT
from demo.feed import FeedError
from demo.fleet import FleetError
from faults import soak
from faults.fault import Fault
from faults.report import Tried, document
from faults.run import FAULTS, play
from faults.scene import RATE, FaultFailed, Outcome, serving
from servers.errors import ServerFailed, ServerMissing

HOME = ROOT / ".demo"
DOCUMENT = ROOT / "docs" / "reliability.md"
SHOWN = 5

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def run(
    only: Annotated[list[str] | None, typer.Option("--only", metavar="F-12", help="This one alone; repeatable.")] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="So often each.")] = 1,
    minutes: Annotated[float | None, typer.Option("--soak", metavar="MINUTES", help="Random faults for so long.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of a soak, to have the same faults again.")] = None,
) -> None:
    """Play faults on real servers; exits 1 if anything is violated. A run of all of them writes docs/reliability.md."""
    if unknown := sorted({*(only or ())} - {fault.id for fault in FAULTS}):
        _fail(f"there is no fault {', '.join(unknown)}; there are {', '.join(fault.id for fault in FAULTS)}", 2)
    HOME.mkdir(exist_ok=True)
    try:
        if minutes is not None:
            _soak(minutes, random.SystemRandom().randrange(10**6) if seed is None else seed)
            return
        tried = {fault: _try(fault, runs) for fault in FAULTS if not only or fault.id in only}
    except (ServerMissing, ServerFailed) as error:
        _fail(str(error), 1)
    if not only:
        DOCUMENT.write_text(document(tried, datetime.now(UTC), RATE))
        _tell(f"written: {DOCUMENT.relative_to(ROOT)}")
    if not all(one.holds for one in tried.values()):
        raise typer.Exit(1)


def _try(fault: Fault, runs: int) -> Tried:
    """Each run has servers of its own: what a broker that was killed remembers of its groups is not the next run's business."""
    outcomes: list[Outcome] = []
    failed: list[str] = []
    for _ in range(runs):
        home = Path(tempfile.mkdtemp(prefix=f"{fault.id}-", dir=HOME))
        try:
            with serving(_tell) as servers:
                outcome = play(fault, servers, home)
        except (FaultFailed, FleetError, FeedError) as error:
            failed.append(str(error))
            _tell(f"{fault.id:<5} FAILED  {fault.text}: {error}")
            continue
        outcomes.append(outcome)
        _told(fault.id, fault.text, outcome, home)
    return Tried(outcomes, failed)


def _soak(minutes: float, seed: int) -> None:
    home = Path(tempfile.mkdtemp(prefix="soak-", dir=HOME))
    _tell(f"{minutes:g} minutes of random faults, seed {seed}")
    try:
        with serving(_tell) as servers:
            outcome = soak.play(servers, home, minutes * 60, seed, _tell)
    except (FaultFailed, FleetError, FeedError) as error:
        _fail(f"seed {seed}: {error}", 1)
    _told("soak", f"seed {seed}", outcome, home)
    if outcome.against:
        raise typer.Exit(1)


def _told(id: str, text: str, outcome: Outcome, home: Path) -> None:
    """Say what came of it; the files of a run that broke something stay."""
    recovery = f", all lanes after {outcome.recovery.every:.1f} s" if outcome.recovery else ""
    verdict = f"{len(outcome.against)} VIOLATIONS" if outcome.against else "holds"
    _tell(f"{id:<5} {verdict}  {text}: {outcome.judgement.workflows} workflows{recovery}")
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
