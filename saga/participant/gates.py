"""Which feature gates are open for a workflow that is about to start: asked once, and then pinned into it."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any, Protocol

from saga.settings import Settings

log = logging.getLogger("saga.gates")


class Gates(Protocol):
    """Where gates are looked up. What `is_open` raises goes to the caller of `start`, and nothing is begun."""

    def is_open(self, gate: str, *, saga: str, workflow_id: str) -> bool: ...


class EnvironmentGates:
    """The gates that `SAGA_GATES` names, for all workflows alike; read at the first question."""

    @cached_property
    def _open(self) -> frozenset[str]:
        return frozenset(Settings.load().gates)

    def is_open(self, gate: str, *, saga: str, workflow_id: str) -> bool:
        return gate in self._open


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
