"""One run judged: every invariant, as far as the evidence reaches. What was not looked at is never said to hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from saga.contracts.acknowledged import RECORD, Acknowledged, Acknowledgments
from saga.errors import ContractError
from saga.protocol.facts import FactStatus
from saga.replay.contracts import Contracts
from saga.replay.gathering import LINGER, histories
from saga.replay.history import History
from saga.testing.checker import facts, stores
from saga.testing.checker.case import Case
from saga.testing.checker.evidence import Call, Effect, Evidence
from saga.testing.checker.invariant import Invariant, Problem, Violation
from saga.testing.checker.restored import Restored

KEPT = 1_000
"""Violations that are told one by one; all are counted."""

_AGED = frozenset(
    {
        Invariant.STARTED, Invariant.ENDED, Invariant.ORDER, Invariant.OUTBOX, Invariant.COMPENSATION, Invariant.CAUSALITY,
        Invariant.REPLAY,
    }
)  # fmt: skip
_QUIET = frozenset({Invariant.ENDED, Invariant.STARTED, Invariant.OUTBOX, Invariant.REPLAY, Invariant.ACKNOWLEDGED})

Rule = Callable[[Case], Iterator[Problem]]


class Verdict(NamedTuple):
    """One invariant. `looked` says at how much was looked; where `why_not` is set, it was not judged."""

    invariant: Invariant
    looked: str
    violations: int
    why_not: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """`verdicts` has each invariant once, in order; `violations` the first of those found.

    `workflows`, `facts` and `repeated` count what the topics hold.
    """

    verdicts: list[Verdict]
    violations: list[Violation]
    workflows: int
    facts: int
    repeated: int

    @property
    def holds(self) -> bool:
        """Whether nothing that was judged is violated."""
        return not any(verdict.violations for verdict in self.verdicts)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "holds": self.holds, "workflows": self.workflows, "facts": self.facts, "repeated": self.repeated,
            "invariants": [{"sentence": v.invariant.sentence, **v._asdict()} for v in self.verdicts],
            "violations": [violation._asdict() for violation in self.violations],
        }  # fmt: skip


def judge(evidence: Evidence, *, without: Collection[Invariant] = (), linger: int = LINGER) -> Judgement:
    """Judge a run, a workflow at a time; `linger` is that of `saga.replay.gathering`, `without` leaves invariants out.

    Of the topics few workflows are in memory at once; stores, as evidence has them, are there whole.
    """
    return _Judge(evidence, dict.fromkeys(without, "it was left out"), linger).judgement()


class _Judge:
    def __init__(self, evidence: Evidence, left_out: Mapping[Invariant, str], linger: int) -> None:
        self.evidence, self.linger = evidence, linger
        self.contracts: Contracts = evidence.contracts
        self.why_not = {**_unjudged(evidence), **left_out}
        self.acks = self._acknowledgments()
        self.effects: dict[str, list[Effect]] = defaultdict(list)
        for effect in evidence.effects or ():
            self.effects[effect.workflow].append(effect)
        self.rules = [(i, rule) for i, rule in self._rules() if i not in self.why_not]
        self.looked: dict[Invariant, Counter[str]] = defaultdict(Counter)
        self.claimed: dict[Invariant, list[str]] = defaultdict(list)
        self.found: Counter[Invariant] = Counter()
        self.violations: list[Violation] = []
        self.seen: dict[str, Counter[FactStatus]] = {}
        self.facts = self.repeated = 0

    def _rules(self) -> list[tuple[Invariant, Rule]]:
        return [
            (Invariant.STARTED, stores.started),
            (Invariant.ONCE, facts.once),
            (Invariant.ONCE, stores.effects),
            (Invariant.ENDED, stores.ended),
            (Invariant.ORDER, facts.order),
            (Invariant.OUTBOX, stores.outbox),
            (Invariant.COMPENSATION, facts.compensation),
            (Invariant.CAUSALITY, facts.causality),
            (Invariant.REPLAY, Restored(self.contracts, len(self.evidence.source.lanes()))),
            (Invariant.SCHEMA, facts.schema),
            (Invariant.SECRECY, partial(stores.secrecy, secrets=frozenset(self.evidence.secrets))),
            (Invariant.ACKNOWLEDGED, stores.acknowledged),
        ]

    def judgement(self) -> Judgement:
        for history in histories(self.evidence.source, self.contracts, linger=self.linger):
            self._look(history)
        for workflow in sorted({id for books in self.evidence.books.values() for id in books.workflows} - self.seen.keys()):
            self._untold(workflow)
        self._calls()
        self._texts()
        self._duplicates()
        self._claims()
        verdicts = [self._verdict(invariant) for invariant in Invariant]
        return Judgement(verdicts, self.violations, len(self.seen), self.facts, self.repeated)

    def _look(self, history: History) -> None:
        self.repeated += history.repeated
        if history.late:  # a few records of what was judged long ago: by themselves they only have to be readable
            self._ask(Invariant.SCHEMA, facts.schema, self._case(history))
            return
        self.facts += len(history.entries)
        self.seen[history.workflow] = Counter(e.message.kind.status for e in history.entries.values() if e.message)
        case = self._case(history)
        for invariant, rule in self.rules:
            self._ask(invariant, rule, case)
        for invariant in {invariant for invariant, _ in self.rules}:
            self.looked[invariant]["workflows"] += 1
        self._count(case)

    def _count(self, case: Case) -> None:
        self.looked[Invariant.ENDED]["parked"] += bool(case.parked)
        self.looked[Invariant.ENDED]["pruned"] += len(case.books) < len(self.evidence.books)
        self.looked[Invariant.ONCE]["effects"] += len(case.effects)
        self.looked[Invariant.COMPENSATION]["steps undone"] += len(case.steps(FactStatus.COMPENSATED))
        for invariant in (Invariant.ORDER, Invariant.CAUSALITY, Invariant.SCHEMA, Invariant.ACKNOWLEDGED):
            self.looked[invariant]["facts"] += len(case.entries)
        self.looked[Invariant.REPLAY]["rows"] += sum(workflow is not None for workflow in case.books.values())
        self.looked[Invariant.OUTBOX]["outbox rows"] += sum(map(len, case.rows.values()))

    def _case(self, history: History) -> Case:
        saga = self.contracts.of(history)
        books = {name: one for name, one in self.evidence.books.items() if not one.may_have_pruned(history, saga)}
        return Case(
            self.contracts,
            history,
            {name: one.workflows.get(history.workflow) for name, one in books.items()},
            {name: one.rows.get(history.workflow, []) for name, one in books.items()},
            self.effects.get(history.workflow, ()),
            self.acks.get(next(iter(history.entries.values())).record.partition),
        )

    def _ask(self, invariant: Invariant, rule: Rule, case: Case) -> None:
        for found in rule(case):
            self._violated(invariant, case.id, *found)

    def _violated(self, invariant: Invariant, workflow: str, found: str, expected: str) -> None:
        self.found[invariant] += 1
        if len(self.violations) < KEPT:
            self.violations.append(Violation(invariant, workflow, found, expected))

    def _untold(self, workflow: str) -> None:
        """Something that stores know of and no topic does."""
        if Invariant.STARTED not in self.why_not:
            names = " and ".join(name for name, one in self.evidence.books.items() if workflow in one.workflows)
            self._violated(Invariant.STARTED, workflow, f"it in the store of {names} and on no topic", "its facts")

    def _calls(self) -> None:
        for call in self.evidence.calls or () if Invariant.STARTED not in self.why_not else ():
            self.looked[Invariant.STARTED]["calls"] += 1
            if problem := self._broken(call):
                self._violated(Invariant.STARTED, call.workflow, *problem)

    def _broken(self, call: Call) -> Problem | None:
        told = self.seen.get(call.workflow)
        if call.verb == "start" and call.outcome == "failed" and told is not None:
            return Problem("it on the topics, although its caller was told that its start failed", "nothing of it")
        if call.outcome != "ok":
            return None
        if told is None:
            return Problem(f"nothing of it on the topics, although {call.verb} was acknowledged", "its facts")
        if call.verb == "abort" and not told[FactStatus.ABORT] + told[FactStatus.FAILED] + told[FactStatus.SKIPPED]:
            return Problem("no wish to abort on the topics, although it was acknowledged", "the wish")
        return None

    def _texts(self) -> None:
        for text in self.evidence.texts if self.evidence.secrets else ():
            self.looked[Invariant.SECRECY]["texts"] += 1
            if any(secret in text for secret in self.evidence.secrets):
                self._violated(Invariant.SECRECY, "", "a secret in a text that is shown to people", "it nowhere to be shown")

    def _duplicates(self) -> None:
        allowed = self.evidence.duplicates
        if allowed is not None:
            self.looked[Invariant.DUPLICATES]["records that came again"] += self.repeated
            if self.repeated > allowed:
                self._violated(Invariant.DUPLICATES, "", f"{self.repeated} records that came again", f"at most {allowed}")

    def _claims(self) -> None:
        for claim in self.evidence.claims:
            self.claimed[claim.invariant].append(claim.looked or claim.text)
            for text in claim.problems():
                self._violated(claim.invariant, "", text, claim.text)

    def _verdict(self, invariant: Invariant) -> Verdict:
        if invariant in self.why_not:
            return Verdict(invariant, "", 0, self.why_not[invariant])
        counted = self.looked[invariant]
        looked = ", ".join(
            filter(None, [*(f"{count} {what}" for what, count in counted.items() if count), *self.claimed[invariant]])
        )
        return Verdict(invariant, looked or "nothing", self.found[invariant])

    def _acknowledgments(self) -> dict[int, Acknowledgments]:
        found: dict[int, Acknowledgments] = {}
        if Invariant.ACKNOWLEDGED in self.why_not:
            return found
        codec = self.contracts.codec(self.contracts.latest.version)
        for record in self.evidence.acks or ():
            try:
                said = Acknowledged.of(codec.decode(RECORD, record.value or b""))
            except ContractError:
                continue  # participants do not hear what they cannot read either
            found.setdefault(record.partition, Acknowledgments()).take(said)
        return {lane: found.get(lane, Acknowledgments()) for lane in self.evidence.source.lanes()}


def _unjudged(evidence: Evidence) -> dict[Invariant, str]:
    """What this evidence cannot tell, and why."""
    claimed = {claim.invariant for claim in evidence.claims}
    found = {
        **dict.fromkeys((Invariant.ENDED, Invariant.OUTBOX, Invariant.REPLAY), None if evidence.books else "no store was read"),
        Invariant.STARTED: None if evidence.books or evidence.calls is not None else "no store was read, no call was told",
        Invariant.CONSERVED: None if Invariant.CONSERVED in claimed else "no claim was given",
        Invariant.PROGRESS: None if Invariant.PROGRESS in claimed else "no claim was given",
        Invariant.DUPLICATES: None if evidence.duplicates is not None else "no bound was given",
        Invariant.SECRECY: None if evidence.secrets else "no secret was planted",
        Invariant.ACKNOWLEDGED: None if evidence.acks is not None else "acknowledgments were not read, or have aged out",
    }
    if not evidence.quiet:
        found |= dict.fromkeys(_QUIET, "the run still goes on")
    if evidence.source.aged:
        found |= {invariant: found.get(invariant) or "older records have aged out" for invariant in _AGED}
    return {invariant: why for invariant, why in found.items() if why}
