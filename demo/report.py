"""What a run came to: workflows by outcome, events, times, and the findings of the audit; for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from demo.audit import Finding
from demo.books import Books
from demo.order import Intake
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.store.workflow import Workflow

FAILURES = {"reserve": "out of stock", "authorise": "payment declined", "dispatch": "no courier"}
UNDONE = StepStatus.COMPENSATED


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
        table = Table(title="Audit", title_justify="left", show_header=False)
        for finding in self.findings:
            table.add_row("[green]holds[/]" if finding.holds else "[bold red]FALSE[/]", finding.claim, finding.checked)
            for against in finding.against:
                table.add_row("", f"[red]{against}[/]", "")
            if finding.problems > len(finding.against):
                table.add_row("", f"[red]and {finding.problems - len(finding.against)} more[/]", "")
        return table


def report(books: Books, intake: Intake, findings: Sequence[Finding], seconds: float) -> Report:
    """Draw the report up from what every service's store says of each order's workflow."""
    histories = [_history(found) for found in books.workflows()]
    spans = sorted(history.seconds for history in histories if history.seconds is not None)
    return Report(
        intake=intake,
        outcomes=_outcomes(histories),
        events=sum(history.events for history in histories),
        seconds=seconds,
        p50=_percentile(spans, 50),
        p99=_percentile(spans, 99),
        findings=tuple(findings),
    )


@dataclass(frozen=True, slots=True)
class _History:
    """One workflow, seen from all stores; `seconds` from its beginning to its end, None while it is open."""

    outcome: str
    unwound: bool
    events: int
    seconds: float | None


def _history(found: Mapping[str, Workflow]) -> _History:
    steps = {fence.step: fence.status for workflow in found.values() for fence in workflow.fences.values()}
    begun = found["orders"]
    return _History(
        outcome=_outcome(begun, steps),
        unwound=UNDONE in {steps.get("reserve"), steps.get("authorise")},
        events=sum(workflow.sequence for workflow in found.values()),
        seconds=(begun.closed - begun.opened).total_seconds() if begun.closed else None,
    )


def _outcome(begun: Workflow, steps: Mapping[str, StepStatus]) -> str:
    failures = [name for step, name in FAILURES.items() if steps.get(step) is StepStatus.FAILED]
    match begun.status:
        case WorkflowStatus.COMPLETED:
            return "confirmed"
        case WorkflowStatus.COMPENSATED:
            return f"cancelled: {' and '.join(failures) or 'no failure on record'}"
        case status:
            return f"open: {status}"


def _outcomes(histories: Sequence[_History]) -> tuple[Outcome, ...]:
    count = Counter(history.outcome for history in histories)
    unwound = Counter(history.outcome for history in histories if history.unwound)
    return tuple(Outcome(name, workflows, unwound[name]) for name, workflows in count.most_common())


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that at least `percent` of a hundred do not exceed; 0 where there are none."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else 0.0


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
