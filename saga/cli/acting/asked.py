"""The options that all verbs on workflows have: which workflows, who asks, and how it is carried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saga.cli import arguments, output
from saga.cli.acting import bulk
from saga.cli.acting.selection import Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """As a person gave them."""

    matching: arguments.Matching = None
    parked: arguments.Parked = False
    step: arguments.OfStep = None
    version: arguments.OfVersion = None
    status: arguments.OfStatus = None
    stuck_for: arguments.StuckFor = None
    limit: arguments.Limit = 1000
    by: arguments.By = None
    dry_run: arguments.DryRun = False
    yes: arguments.Yes = False
    database: arguments.DatabaseUrl = None
    as_json: output.AsJson = False

    def selection(self, ids: Sequence[str], *, step: str | None = None, saga: str | None = None) -> Selection:
        """These workflows, or those that fit; `step` where it is no option. Refuses to guess (DefinitionError)."""
        selection = Selection(
            ids=ids, matching=self.matching, parked=self.parked, step=step or self.step, saga=saga, version=self.version,
            status=self.status, stuck_for=self.stuck_for, limit=self.limit,
        )  # fmt: skip
        selection.check()
        return selection

    def report(self, verb: str, selection: Selection, reason: str | None) -> bulk.Report:
        """What is asked, before anything was done."""
        return bulk.Report(
            database="", verb=verb, step=selection.step, reason=reason, by=arguments.person(self.by), dry_run=self.dry_run,
            many=not selection.ids,
        )  # fmt: skip
