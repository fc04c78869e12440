"""Which feature gates are open for a workflow that is about to start: asked once, and then pinned into it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Protocol

from saga.protocol.definition import Definition
from saga.protocol.gates import gates
from saga.settings import Settings

log = logging.getLogger("saga.gates")


class Gates(Protocol):
    """Where gates are looked up. What `is_open` raises goes to the caller of `start`, and nothing is begun."""

    def is_open(self, gate: str, *, saga: str, workflow_id: str) -> bool: ...


class EnvironmentGates:
    """The gates that `SAGA_GATES` names, for all workflows alike; read at the first question.

    Of one that none of these `sagas` has the log warns. It is not refused, since a gate may be named before the release that
    has it is deployed, and after.
    """

    def __init__(self, sagas: Iterable[Definition] = ()) -> None:
        self._sagas = sagas

    @cached_property
    def _open(self) -> frozenset[str]:
        opened = frozenset(Settings.load().gates)
        if (sagas := [*self._sagas]) and (text := unknown_gates(opened, sagas)):
            log.warning("%s; correct SAGA_GATES, or deploy the release that has it", text)
        return opened

    def is_open(self, gate: str, *, saga: str, workflow_id: str) -> bool:
        return gate in self._open


def unknown_gates(opened: Iterable[str], sagas: Iterable[Definition]) -> str:
    """Which of the gates no version of a saga has, as a sentence; an empty text if there is none."""
    known = {gate for saga in sagas for gate in gates(saga)}
    unknown = ", ".join(map(repr, sorted({*opened} - known)))
    return (
        unknown and f"no saga here has the gate {unknown}, which opens nothing; known are {', '.join(sorted(known)) or 'none'}"
    )


class OpenFeatureGates:
    """Asks an OpenFeature client for a boolean flag of the gate's name; unknown ones are shut.

    The evaluation context has the workflow id as its targeting key, so that a share of workflows can be let through, and the
    attribute `saga`. Source: OpenFeature specification, flag evaluation.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def is_open(self, gate: str, *, saga: str, workflow_id: str) -> bool:
        from openfeature.evaluation_context import EvaluationContext

        context = EvaluationContext(targeting_key=workflow_id, attributes={"saga": saga})
        return bool(self._client.get_boolean_value(gate, False, context))
