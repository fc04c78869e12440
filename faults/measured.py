"""What runs of faults have found, kept in `measured.jsonl` beside this file: some can be measured anew, or more often."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from faults.scene import Outcome

KEPT = Path(__file__).with_name("measured.jsonl")


@dataclass(frozen=True, order=True)
class Setting:
    """When and where a run took place; `jobs` is how many were played at a time, `busy` whether others used the machine."""

    day: str
    machine: str
    jobs: int = 1
    busy: bool = False


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a fault; `first` and `every` are its recovery in seconds, `failed` says why it came to no end."""

    fault: str
    workload: str
    setting: Setting
    workflows: int = 0
    violations: int = 0
    first: float | None = None
    every: float | None = None
    again: int = 0
    facts: int = 0
    failed: str | None = None

    @classmethod
    def of(cls, fault: str, workload: str, setting: Setting, found: Outcome | str) -> Run:
        """One that ended, or what went wrong with one that did not."""
        if isinstance(found, str):
            return cls(fault=fault, workload=workload, setting=setting, failed=found)
        judgement, recovery = found.judgement, found.recovery
        return cls(
            fault=fault,
            workload=workload,
            setting=setting,
            workflows=judgement.workflows,
            violations=len(found.against),
            first=round(recovery.first, 1) if recovery else None,
            every=round(recovery.every, 1) if recovery else None,
            again=judgement.repeated,
            facts=judgement.facts,
        )

    @property
    def holds(self) -> bool:
        return self.failed is None and not self.violations


def read(file: Path = KEPT) -> list[Run]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [Run(**{**line, "setting": Setting(**line["setting"])}) for line in lines]


def write(runs: Iterable[Run], file: Path = KEPT) -> None:
    """All of them, a line each, those of a fault together."""
    ordered = sorted(runs, key=lambda run: (run.workload, run.fault))
    file.write_text("".join(json.dumps(asdict(run), ensure_ascii=False) + "\n" for run in ordered))
