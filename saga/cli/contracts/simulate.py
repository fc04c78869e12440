"""`saga simulate`: a whole fleet under seeded trouble, in this process; what breaks a promise is told as a short story."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated

import typer

from saga.cli import arguments, output
from saga.cli.options import spelt_out
from saga.count import many
from saga.errors import DefinitionError
from saga.testing.simulation.drawing import Kind

if TYPE_CHECKING:
    from saga.testing.simulation.rare import Rare
    from saga.testing.simulation.simulation import Run, Simulation
    from saga.testing.simulation.verdict import Violation

SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Broken:
    """One seed that broke a promise; the story is of a run as small as it gets."""

    seed: int
    violations: list[str]
    story: list[str]
    again: str


@dataclass(frozen=True, slots=True)
class _Told:
    """What came of it all."""

    saga: str
    seeds: int
    broken: list[_Broken]
    rare: list[Rare]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lives:
    """What every seed lives through."""

    workflows: Annotated[int, typer.Option("--workflows", metavar="N", min=1, help="Workflows of a run.")] = 10
    acts: Annotated[int, typer.Option("--acts", metavar="N", min=1, help="Acts of a run, before it comes to rest.")] = 120
    faults: Annotated[
        str,
        typer.Option("--faults", metavar="KINDS", help=f"Some of {', '.join(Kind)}; else all of them.", show_default=False),
    ] = ",".join(Kind)
    liveness: Annotated[
        bool, typer.Option("--liveness", help="Break some workflows for good: all others must end by themselves.")
    ] = False
    release: Annotated[
        list[str] | None,
        typer.Option(
            "--release", metavar="MODULE:PARTICIPANT", help="Another release, deployed and taken back; may be repeated."
        ),
    ] = None
    start: Annotated[
        str | None, typer.Option("--start", metavar="MODULE:FUNCTION", help="(number) -> the event that begins a workflow.")
    ] = None
    prepare: Annotated[
        str | None, typer.Option("--prepare", metavar="MODULE:FUNCTION", help="(participant, tx): makes tables and rows.")
    ] = None
    check: Annotated[
        str | None, typer.Option("--check", metavar="MODULE:FUNCTION", help="(world) -> texts of what else does not hold.")
    ] = None

    def simulation(self, targets: Sequence[str]) -> Simulation:
        """Of this fleet."""
        from saga.testing.simulation.simulation import Simulation

        return Simulation(
            participants=[arguments.participant(target) for target in targets],
            workflows=self.workflows,
            acts=self.acts,
            kinds=Kind.read([name.strip() for name in self.faults.split(",") if name.strip()]),
            liveness=self.liveness,
            releases=[arguments.participant(release) for release in self.release or ()],
            begin=arguments.function(self.start) if self.start else None,
            prepare=arguments.function(self.prepare) if self.prepare else None,
            look=arguments.function(self.check) if self.check else None,
        )

    def again(self, targets: Sequence[str], seed: int) -> str:
        """The command that shows this seed again: what is as usual is left out."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}
        said = [
            (f"--{name}", value) for name, given in own.items() for value in (given if isinstance(given, list) else [given])
        ]
        options = [name if value is True else f"{name} {shlex.quote(str(value))}" for name, value in said]
        return " ".join(["saga simulate", *targets, f"--seed {seed}", *options])


@spelt_out
def simulate(
    targets: Annotated[list[str], typer.Argument(metavar="MODULE:PARTICIPANT", help="All participants of one saga.")],
    lives: _Lives,
    seeds: Annotated[str, typer.Option("--seeds", metavar="A..B", help="Which seeds, both included.")] = "1..100",
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="One seed, told act by act.")] = None,
    processes: Annotated[
        int,
        typer.Option("--processes", metavar="N", min=1, help="Share the seeds; else one each processor.", show_default=False),
    ] = os.cpu_count() or 1,
    shrinks: Annotated[bool, typer.Option("--shrink/--no-shrink", help="Make what fails as small as it gets.")] = True,
    as_json: output.AsJson = False,
) -> None:
    """Let a fleet live through crashes, duplicates, delays, rebalances and failures of databases, again and again.

    The engine is that of production; log, databases, clock and chance are simulated. Handlers run with SQLite in memory, and
    besides what they do themselves they raise and fail by chance. Every seed gives the same run each time. Exits 1 if a promise
    was broken, with the seed, the shortest run that breaks it, and the command that shows it again.
    """
    from saga.testing.simulation.campaign import Campaign

    simulation = lives.simulation(targets)
    if seed is not None:
        _tell_one(simulation.run(seed, traced=True), as_json=as_json)
        return
    campaign, wanted = Campaign(simulation), _range(seeds)
    found = campaign.run(wanted, processes=processes)
    for _ in output.counted(wanted, "simulating"):
        next(found)
    found.close()  # type: ignore[attr-defined]
    broken = [_broken(simulation, run, lives.again(targets, run.seed), shrinks=shrinks) for run in campaign.broken[:SHOWN]]
    told = _Told(simulation.drawing.saga.name, campaign.seeds, broken, campaign.rare())
    output.json(asdict(told)) if as_json else _tell(told, len(campaign.broken))
    if broken:
        raise typer.Exit(1)


def _range(seeds: str) -> range:
    first, dots, last = seeds.partition("..")
    try:
        found = range(int(first), int(last) + 1 if dots else int(first) + 1)
    except ValueError:
        found = range(0)
    if not found:
        raise DefinitionError(f"found --seeds {seeds!r}; expected A..B, e.g. 1..1000")
    return found


def _broken(simulation: Simulation, run: Run, again: str, *, shrinks: bool) -> _Broken:
    from saga.testing.simulation.campaign import smallest

    small = smallest(simulation, run) if shrinks else simulation.run(run.seed, traced=True)
    return _Broken(run.seed, [str(violation) for violation in small.violations], list(small.trace), again)


def _tell_one(run: Run, *, as_json: bool) -> None:
    violations = [str(violation) for violation in run.violations]
    if as_json:
        output.json({"seed": run.seed, "trace": run.trace, "violations": violations})
    else:
        for text in run.trace:
            output.line(text)
        for text in _grouped(run.violations):
            output.line(text, style="bold red")
        if not violations:
            output.line(f"seed {run.seed}: no promise is broken", style="green")
    if violations:
        raise typer.Exit(1)


def _grouped(violations: Iterable[Violation]) -> Iterator[str]:
    """One for each cause, with all others that differ in nothing but the workflow."""
    from saga.cli.looking.fingerprint import fingerprint

    groups: dict[tuple[str, str], list[Violation]] = {}
    for one in violations:
        groups.setdefault((one.promise, fingerprint(one.text, one.workflow)), []).append(one)
    for first, *others in groups.values():
        yield f"{first} (also: {', '.join(one.workflow for one in others)})" if others else str(first)


def _tell(told: _Told, broken: int) -> None:
    output.table(("state", "met"), [(rare.state, str(rare.times) if rare.times else "never") for rare in told.rare])
    for one in told.broken:
        output.line(f"seed {one.seed}: {one.violations[0]}", style="bold red")
        for text in one.story:
            output.line(f"  {text}")
        output.line(f"  again: {one.again}")
    if broken:
        output.line(f"{broken} of {many(told.seeds, 'seed')} broke a promise", style="bold red")
    else:
        output.line(f"{many(told.seeds, 'seed')} of saga {told.saga}: no promise is broken", style="green")
