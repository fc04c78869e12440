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

    So is one whose provider is not ready, fails, or answers what is no boolean; the log warns of it, once until it answers.
    The evaluation context has the workflow id as its targeting key, so that a share of workflows can be let through, and the
    attribute `saga`. Source: OpenFeature specification, flag evaluation.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._failing: dict[str, str | None] = {}

    def is_open(self, gate: str, *, saga: str, workflow_id: str) -> bool:
        from openfeature.evaluation_context import EvaluationContext

        context = EvaluationContext(targeting_key=workflow_id, attributes={"saga": saga})
        found = self._client.get_boolean_details(gate, False, context)
        failure = None if found.error_code is None or found.error_code.value == "FLAG_NOT_FOUND" else found.error_code.value
        if failure and failure != self._failing.get(gate):
            why = f"{failure}: {found.error_message}" if found.error_message else failure
            log.warning("gate %r is shut for workflow %s, and until its provider answers: %s", gate, workflow_id, why)
        self._failing[gate] = failure
        return bool(found.value)
