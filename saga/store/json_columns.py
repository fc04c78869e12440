"""What is kept as JSON text, alike in every database; nothing to keep is NULL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

import orjson

from saga.protocol.facts import StepStatus
from saga.store.workflow import Fence, Intervention

# a look-up is four times faster than calling the enumeration, and rows come by the thousand
STEP = {status.value: status for status in StepStatus}


def exceptions_text(steps: Collection[str]) -> str | None:
    """The steps in order, so that the same ones are the same text."""
    return orjson.dumps(sorted(steps)).decode() if steps else None


def exceptions_of(text: str | None) -> frozenset[str]:
    """What `exceptions_text` wrote."""
    return frozenset(orjson.loads(text)) if text else frozenset()


def interventions_text(interventions: Sequence[Intervention]) -> str | None:
    """In the order in which they were."""
    return orjson.dumps([intervention._asdict() for intervention in interventions]).decode() if interventions else None


def interventions_of(text: str | None) -> tuple[Intervention, ...]:
    """What `interventions_text` wrote."""
    found = orjson.loads(text) if text else ()
    return tuple(Intervention(**one | {"at": datetime.fromisoformat(one["at"])}) for one in found)


def steps_text(fences: Iterable[Fence]) -> str:
    """All that a closed workflow keeps of its fences."""
    return orjson.dumps({fence.step: (fence.status, fence.refused) for fence in fences}).decode()


def steps_of(text: str | None) -> dict[str, Fence]:
    """What `steps_text` wrote."""
    if not text:
        return {}
    return {
        step: Fence(step=step, status=STEP[status], refused=refused) for step, (status, refused) in orjson.loads(text).items()
    }
