"""What must hold of every run of a saga, whatever went wrong meanwhile, and the shape in which a breach of it is told."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Invariant(StrEnum):
    """The number by which reports name it; `sentence` says it in words."""

    STARTED = "I1"
    ONCE = "I2"
    ENDED = "I3"
    ORDER = "I4"
    CONSERVED = "I5"
    DUPLICATES = "I6"
    OUTBOX = "I7"
    COMPENSATION = "I8"
    CAUSALITY = "I9"
    REPLAY = "I10"
    SCHEMA = "I11"
    PROGRESS = "I12"
    SECRECY = "I13"
    ACKNOWLEDGED = "I14"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Invariant.STARTED: "no workflow that was started is lost",
    Invariant.ONCE: "no effect happens twice",
    Invariant.ENDED: "every workflow ends everywhere alike, or is parked",
    Invariant.ORDER: "facts come in the order of their commits, without a gap",
    Invariant.CONSERVED: "what the business conserves is conserved",
    Invariant.DUPLICATES: "records come again no more often than allowed",
    Invariant.OUTBOX: "outboxes and topics tell the same",
    Invariant.COMPENSATION: "what was done is undone, backwards, and nothing else",
    Invariant.CAUSALITY: "causes come before effects",
    Invariant.REPLAY: "stores are what the topics make of them",
    Invariant.SCHEMA: "every record can be read",
    Invariant.PROGRESS: "who is not concerned goes on",
    Invariant.SECRECY: "no secret is told",
    Invariant.ACKNOWLEDGED: "every fact is acknowledged by all whom it concerns",
}


class Problem(NamedTuple):
    """What contradicts an invariant, in words: what was found, and what was expected instead."""

    found: str
    expected: str


class Violation(NamedTuple):
    """A problem, and where: `workflow` is empty where it is none's."""

    invariant: Invariant
    workflow: str
    found: str
    expected: str

    def __str__(self) -> str:
        where = f"workflow {self.workflow}: " if self.workflow else ""
        return f"{self.invariant} {where}found {self.found}; expected {self.expected}"
