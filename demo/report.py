"""What a run came to: workflows by outcome, events, times, and the findings of the audit; for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from statistics import quantiles
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from demo.audit import Finding
from demo.books import SERVICES, Books
from demo.order import Intake

WORKFLOWS = "SELECT workflow_id, status, opened, closed, steps FROM saga_workflow"
EVENTS = "SELECT coalesce(sum(sequence), 0) FROM saga_workflow"
FAILURES = {"reserve": "out of stock", "authorise": "payment declined", "dispatch": "no courier"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """`workflows` ended this way; in `unwound` of them a step had been done and was compensated."""

    name: str
    workflows: int
    unwound: int


@dataclass(frozen=True, slots=True)
class Report:
    """`events` are the facts that all services published; times are in seconds, from an order's placement to its end."""

    intake: Intake
    outcomes: tuple[Outcome, ...]
    events: int
    seconds: float
    p50: float
    p99: float
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        return all(finding.holds for finding in self.findings)

    def json(self) -> bytes:
        """The whole report, for machines."""
        intake = self.intake
        data: dict[str, Any] = {
            "invoices": {"total": intake.invoices, "ordered": intake.ordered, "refused": dict(intake.refused)},
            "lines": {"total": intake.lines, "kept": intake.kept, "dropped": dict(intake.dropped)},
            "outcomes": {o.name: {"workflows": o.workflows, "unwound": o.unwound} for o in self.outcomes},
            "events": self.events,
            "seconds": self.seconds,
            "completion": {"p50": self.p50, "p99": self.p99},
            "audit": [{**asdict(finding), "holds": finding.holds} for finding in self.findings],
            "clean": self.clean,
        }
        return orjson.dumps(data, option=orjson.OPT_INDENT_2)

    def show(self, console: Console) -> None:
        """Print the tables."""
        console.print(self._intake_line(), highlight=False)
        console.print(self._outcome_table())
        console.print(self._times_line(), highlight=False)
        console.print(self._audit_table())

    def _intake_line(self) -> str:
        intake = self.intake
        refused = f", refused {_listed(intake.refused)}" if intake.refused else ""
        dropped = f"; lines dropped: {_listed(intake.dropped)}" if intake.dropped else ""
        return f"{intake.invoices} invoices: {intake.ordered} ordered{refused}{dropped}"

    def _outcome_table(self) -> Table:
        table = Table(title="Workflows by outcome", title_justify="left")
        table.add_column("outcome")
        table.add_column("workflows", justify="right")
        table.add_column("of which a step was undone", justify="right")
        for outcome in self.outcomes:
            table.add_row(outcome.name, str(outcome.workflows), str(outcome.unwound or ""))
        table.add_section()
        table.add_row("all", str(sum(o.workflows for o in self.outcomes)), str(sum(o.unwound for o in self.outcomes)))
        return table

    def _times_line(self) -> str:
        rate = self.events / self.seconds if self.seconds else 0
        return (
            f"{self.events} events in {self.seconds:.1f} s ({rate:.0f}/s); "
            f"from placement to the end: p50 {self.p50:.2f} s, p99 {self.p99:.2f} s"
        )

    def _audit_table(self) -> Table:
        table = Table(title="Audit", title_justify="left")
        for column in ("", "claim", "checked"):
            table.add_column(column)
        for finding in self.findings:
            table.add_row("[green]holds[/]" if finding.holds else "[bold red]FALSE[/]", finding.claim, finding.checked)
            for against in finding.against:
                table.add_row("", f"[red]{against}[/]", "")
            if finding.problems > len(finding.against):
                table.add_row("", f"[red]and {finding.problems - len(finding.against)} more[/]", "")
        return table


def report(books: Books, intake: Intake, findings: Sequence[Finding], seconds: float) -> Report:
    """Draw the report up from the books of all services."""
    steps, spans = _workflows(books)
    cuts = quantiles(spans, n=100, method="inclusive") if len(spans) > 1 else spans * 99 or [0.0] * 99
    return Report(
        intake=intake,
        outcomes=_outcomes(steps),
        events=sum(books.rows(service, EVENTS)[0][0] for service in SERVICES),
        seconds=seconds,
        p50=cuts[49],
        p99=cuts[98],
        findings=tuple(findings),
    )


def _workflows(books: Books) -> tuple[dict[str, dict[str, str]], list[float]]:
    """Every workflow's steps with the status that their owner gave them, and how many seconds each took to its end."""
    steps: dict[str, dict[str, str]] = {}
    spans: list[float] = []
    for service in SERVICES:
        for workflow_id, status, opened, closed, ends in books.rows(service, WORKFLOWS):
            steps.setdefault(workflow_id, {}).update(orjson.loads(ends or "{}"))
            if service == "orders":
                steps[workflow_id]["workflow"] = status
                if closed:
                    spans.append((datetime.fromisoformat(closed) - datetime.fromisoformat(opened)).total_seconds())
    return steps, spans


def _outcomes(workflows: Mapping[str, Mapping[str, str]]) -> tuple[Outcome, ...]:
    count: Counter[str] = Counter()
    unwound: Counter[str] = Counter()
    for steps in workflows.values():
        name = _outcome(steps)
        count[name] += 1
        unwound[name] += any(steps.get(step) == "compensated" for step in ("reserve", "authorise"))
    return tuple(Outcome(name, workflows, unwound[name]) for name, workflows in count.most_common())


def _outcome(steps: Mapping[str, str]) -> str:
    if (status := steps.get("workflow", "unknown to orders")) == "completed":
        return "confirmed"
    failures = [name for step, name in FAILURES.items() if steps.get(step) == "failed"]
    if status != "compensated":
        return f"open: {status}"
    return f"cancelled: {' and '.join(failures) or 'no failure on record'}"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
