"""What happens to a simulated fleet, as values: a schedule is a list of acts, and any part of one is a schedule too.

An act names things by numbers that mean something in every run (a workflow by the order of its start, a record by its place
between first and last), so that a schedule from which acts were taken out still runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from saga.failpoints import Failpoint
from saga.participant.handler import Act as Deed


class StoreFault(StrEnum):
    """How a transaction ends that is disturbed."""

    CONFLICT = "another transaction was in the way"
    STATEMENT = "a statement failed at the end"
    LOST = "the connection was lost, nothing is committed"
    UNKNOWN_COMMITTED = "the answer to COMMIT was lost, it is committed"
    UNKNOWN_UNDONE = "the answer to COMMIT was lost, nothing is committed"


@dataclass(frozen=True, slots=True)
class Start:
    """A workflow begins."""

    number: int

    def __str__(self) -> str:
        return f"workflow {self.number} begins"


@dataclass(frozen=True, slots=True)
class Turn:
    """One process of a participant turns once."""

    participant: str
    process: int = 0

    def __str__(self) -> str:
        return f"{_process(self.participant, self.process)} turns"


@dataclass(frozen=True, slots=True)
class Wait:
    """Time passes at once for everybody."""

    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:g} s pass"


@dataclass(frozen=True, slots=True)
class Raise:
    """A handler raises the next so many times it is called for this workflow."""

    number: int
    step: str
    deed: Deed
    times: int

    def __str__(self) -> str:
        return f"the {self.deed.value} of {self.step!r} will raise {self.times} times for workflow {self.number}"


@dataclass(frozen=True, slots=True)
class Break:
    """A handler raises whenever it is called for this workflow, until it is repaired."""

    number: int
    step: str
    deed: Deed

    def __str__(self) -> str:
        return f"the {self.deed.value} of {self.step!r} is broken for workflow {self.number}"


@dataclass(frozen=True, slots=True)
class Fail:
    """A handler answers with the step's business failure."""

    number: int
    step: str

    def __str__(self) -> str:
        return f"{self.step!r} will fail for workflow {self.number}"


@dataclass(frozen=True, slots=True)
class Crash:
    """A process dies, and another one takes its place."""

    participant: str

    def __str__(self) -> str:
        return f"{self.participant} is killed and started again"


@dataclass(frozen=True, slots=True)
class CrashAt:
    """A process dies in its next turn, at the nth time it passes this place."""

    participant: str
    place: Failpoint
    nth: int

    def __str__(self) -> str:
        return f"{self.participant} turns and dies at {self.place} (hit {self.nth})"


@dataclass(frozen=True, slots=True)
class Stall:
    """A process stops in the middle of a turn, at a place or (None) with records in its hands; another one takes its lanes
    over and works; then the first goes on as if nothing had been."""

    participant: str
    place: Failpoint | None

    def __str__(self) -> str:
        where = self.place or "with what it has polled in hand"
        return f"{self.participant} stalls in its turn ({where}), is taken over, and goes on"


@dataclass(frozen=True, slots=True)
class Join:
    """A second process of the participant joins its group."""

    participant: str

    def __str__(self) -> str:
        return f"a second process of {self.participant} joins"


@dataclass(frozen=True, slots=True)
class Leave:
    """The second process of the participant leaves in an orderly way."""

    participant: str

    def __str__(self) -> str:
        return f"the second process of {self.participant} leaves"


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A record is appended once more; `place` in [0, 1) says which of those that are there."""

    place: float

    def __str__(self) -> str:
        return f"a record is written again (at {self.place:.3f} of all)"


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing of one topic (number in the saga's list) reaches the participant for now, though the others do."""

    participant: str
    topic: int

    def __str__(self) -> str:
        return f"topic {self.topic} reaches {self.participant} no more"


@dataclass(frozen=True, slots=True)
class Refuse:
    """The broker refuses the next record that the participant publishes, and takes those that follow."""

    participant: str

    def __str__(self) -> str:
        return f"the next record of {self.participant} is refused"


@dataclass(frozen=True, slots=True)
class Overtake:
    """The broker refuses the next event, whosever, behind which there is another one of its workflow for the same topic, and
    takes that one: most events have nothing behind them, so single refusals hardly ever meet such a pair."""

    def __str__(self) -> str:
        return "the next event that another one of its workflow is to follow is refused"


@dataclass(frozen=True, slots=True)
class Cut:
    """The participant cannot reach the broker."""

    participant: str

    def __str__(self) -> str:
        return f"{self.participant} is cut off from the broker"


@dataclass(frozen=True, slots=True)
class Heal:
    """All topics and the broker are there again for the participant."""

    participant: str

    def __str__(self) -> str:
        return f"{self.participant} has the broker and all topics again"


@dataclass(frozen=True, slots=True)
class Disturb:
    """The next transaction of the participant ends like this."""

    participant: str
    fault: StoreFault

    def __str__(self) -> str:
        return f"in the next transaction of {self.participant}: {self.fault}"


@dataclass(frozen=True, slots=True)
class Abort:
    """Somebody wishes, in the participant's store, that a workflow unwinds."""

    participant: str
    number: int

    def __str__(self) -> str:
        return f"{self.participant} is asked to unwind workflow {self.number}"


@dataclass(frozen=True, slots=True)
class Operate:
    """Somebody has everything tried again that is parked in the participant's store."""

    participant: str

    def __str__(self) -> str:
        return f"an operator has everything tried again that is parked at {self.participant}"


@dataclass(frozen=True, slots=True)
class Prune:
    """A process of the participant deletes what ended long enough ago."""

    participant: str

    def __str__(self) -> str:
        return f"{self.participant} forgets workflows that ended long ago"


@dataclass(frozen=True, slots=True)
class Deploy:
    """A process of the participant ends in an orderly way, and one of another release takes its place; `place` in [0, 1) says
    which of those that there are."""

    participant: str
    place: float

    def __str__(self) -> str:
        return f"another release of {self.participant} is deployed (at {self.place:.3f} of all)"


Act = (
    Start | Turn | Wait | Raise | Break | Fail | Crash | CrashAt | Stall | Join | Leave | Duplicate | Hold | Refuse | Overtake
    | Cut | Heal | Disturb | Abort | Operate | Prune | Deploy
)  # fmt: skip

Schedule = tuple[Act, ...]


def _process(participant: str, number: int) -> str:
    return participant if number == 0 else f"{participant} ({number + 1})"
