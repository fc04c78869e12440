"""Named places where a test can make the process die, raise or dawdle.

A failpoint is armed from the environment: `SAGA_FAILPOINTS="unit.committed:kill:3"` kills the process (SIGKILL) when that
place is reached for the third time; `raise` raises `FailpointRaised`; `delay=0.5` sleeps half a second at every hit from the
nth on. Several are separated by commas. Unarmed, a failpoint costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from saga.errors import DefinitionError, SagaError


class Failpoint(StrEnum):
    """Every place, in the order in which one unit of work passes them."""

    UNIT_INSIDE = "unit.inside"  # in the transaction, all rows written, not committed
    UNIT_COMMITTED = "unit.committed"  # committed, nothing published
    RELAY_ACKNOWLEDGED = "relay.acknowledged"  # the broker has the records, the outbox rows are not marked
    OFFSETS_UNCOMMITTED = "lane.before_offset_commit"  # all done but the offset commit to Kafka
    EXTERNAL_INTENDED = "external.intended"  # the intent is committed, the world has not been called
    EXTERNAL_RETURNED = "external.returned"  # the world has acted, its answer is not committed


class FailpointRaised(SagaError):
    """What an armed `raise` raises."""


@dataclass(slots=True)
class _Arm:
    action: str
    nth: int
    seconds: float = 0.0
    hits: int = 0
    act: Callable[[], None] | None = None


def arms(text: str) -> dict[str, _Arm]:
    """What the words of the environment variable arm; raises DefinitionError. Arms nothing."""
    armed = {}
    for part in filter(None, text.split(",")):
        name, _, rest = part.partition(":")
        words, _, nth = rest.partition(":")
        action, _, seconds = words.partition("=")
        try:
            arm = _Arm(action, int(nth or 1), float(seconds or 0))
        except ValueError:
            arm = _Arm("", 0)
        if name not in list(Failpoint) or arm.action not in {"kill", "raise", "delay"} or arm.nth < 1:
            raise DefinitionError(
                f"SAGA_FAILPOINTS has {part!r}; expected NAME:kill|raise|delay=SECONDS[:NTH], such as "
                f"{Failpoint.UNIT_COMMITTED}:kill:3, NAME one of {', '.join(Failpoint)}. Correct or unset it."
            )
        armed[name] = arm
    return armed


def _from_environment() -> dict[str, _Arm]:
    """What makes no sense is told by the first place that is reached: an import that fails looks like a bug."""
    try:
        return arms(os.environ.get("SAGA_FAILPOINTS", ""))
    except DefinitionError as error:
        refusal = error

    def refuse() -> None:
        raise refusal

    return {name: _Arm("act", 1, act=refuse) for name in Failpoint}


_armed = _from_environment()


@contextmanager
def armed(text: str) -> Iterator[None]:
    """Arm failpoints of this process for the length of a block, in the words of the environment variable."""
    _armed.update(arms(text))
    try:
        yield
    finally:
        _armed.clear()


@contextmanager
def interrupted(name: Failpoint, act: Callable[[], None]) -> Iterator[None]:
    """Have something done the next time this place is reached in the block, by whoever reaches it."""
    _armed[name] = _Arm("act", 1, act=act)
    try:
        yield
    finally:
        _armed.pop(name, None)


def failpoint(name: Failpoint) -> None:
    """Do here what the environment asked for, if it asked."""
    if not _armed or (arm := _armed.get(name)) is None:
        return
    arm.hits += 1
    if arm.action == "delay" and arm.hits >= arm.nth:
        time.sleep(arm.seconds)
    elif arm.hits == arm.nth and arm.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif arm.hits == arm.nth and arm.act is not None:
        arm.act()
    elif arm.hits == arm.nth and arm.action == "raise":
        raise FailpointRaised(f"failpoint {name}")
