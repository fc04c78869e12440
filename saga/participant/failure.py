"""What an exception of a handler stands for: the one place that gives it its class.

| class | what it is | what becomes of it |
|---|---|---|
| business | no exception: the handler returns the step's `fails` event | the workflow unwinds |
| transient | any other exception, `sys.exit` too | tried again at once, then parked until a due time; attempts are counted |
| permanent | `TerminalError`, a contract error | the step fails, or the workflow waits for an operator |
| infrastructure | the store or the registry is away | the lane rests, nothing is committed, no attempt is counted |
| | a dependency that the handler needs is away | the workflow waits for it, no attempt is counted |
| poison | the handler's input cannot be read | the workflow waits for an operator, the raw bytes are kept |

What the store says of itself is a fact and comes first: its transaction is lost, whatever anybody makes of the exception. Then
the service's own hook is asked, then the defaults hold. A failure is a dependency's only for a handler that says it needs it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from saga.errors import ContractError, RegistryUnavailable, SagaError, TerminalError
from saga.participant.dependency import Dependency
from saga.store.port import as_unit

log = logging.getLogger("saga.failure")


class FailureKind(StrEnum):
    """The classes that an exception may be of."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    INFRASTRUCTURE = "infrastructure"
    POISON = "poison"


@dataclass(frozen=True, slots=True)
class Failure:
    """What an exception stands for, as `Participant.classify` answers it.

    `TRANSIENT` is tried again, `PERMANENT` is not, `POISON` is input that cannot be read and waits for an operator;
    `Failure.of(dependency)` is that dependency's, and spends no attempt.
    """

    kind: FailureKind
    dependency: Dependency | None = None

    TRANSIENT: ClassVar[Failure]
    PERMANENT: ClassVar[Failure]
    POISON: ClassVar[Failure]

    @classmethod
    def of(cls, dependency: Dependency) -> Failure:
        """The failure of something outside, which the handler must have declared to need."""
        return cls(FailureKind.INFRASTRUCTURE, dependency)


Failure.TRANSIENT = Failure(FailureKind.TRANSIENT)
Failure.PERMANENT = Failure(FailureKind.PERMANENT)
Failure.POISON = Failure(FailureKind.POISON)

Classify = Callable[[Exception], Failure | None]
"""A service's word on its own exceptions; None leaves it to the defaults."""


def infrastructure(error: Exception, tx: object) -> SagaError | None:
    """The error with which the lane rests, if the store or the registry is to blame; `tx` is what the handler was given."""
    if isinstance(error, RegistryUnavailable):
        return error
    return unit.technical(error) if (unit := as_unit(tx)) is not None else None


def failure_of(error: Exception, hook: Classify | None, needs: Sequence[Dependency] = ()) -> Failure:
    """The class of an exception, for which neither store nor registry is to blame, of a handler with these needs."""
    if hook is not None and (said := _asked(hook, error, needs)) is not None:
        return said
    if isinstance(error, TerminalError | ContractError):
        return Failure.PERMANENT
    blamed = next((each for each in needs if isinstance(error, each.errors)), None)
    return Failure.of(blamed) if blamed is not None else Failure.TRANSIENT


def _asked(hook: Classify, error: Exception, needs: Sequence[Dependency]) -> Failure | None:
    """What the hook says; one that raises or answers nonsense is reported, and changes nothing."""
    try:
        said: object = hook(error)
    except Exception:
        log.exception("%s raised when asked about %r; the defaults hold", hook, error)
        return None
    if said is None or (isinstance(said, Failure) and said.dependency in (None, *needs)):
        return said
    expected = " or ".join(["a Failure", "None", *(f"Failure.of({each.name})" for each in needs)])
    log.error("%s answered %r about %r; expected %s, so the defaults hold", hook, said, error, expected)
    return None
