"""Health over HTTP: `/livez`, `/readyz`, `/health`, and `/metrics`, in a service's web application or on a port of their own.

Nothing is asked when a request comes in; the answer is what the worker and its watch saw last, so a probe never waits.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import Any

from saga.engine.health import Health, Part, State
from saga.engine.worker import Worker
from saga.observe.prometheus import CONTENT_TYPE, exposition
from saga.observe.serving import Answer, Application, application, as_json, listening, refusal
from saga.participant.participant import Participant


class Opening:
    """Stands for the `worker` of a process that has none yet, since its database does not answer."""

    def __init__(self, participant: Participant) -> None:
        self.participant = participant
        self.worker: Worker | None = None

    def health(self) -> Health:
        if self.worker is not None:
            return self.worker.health()
        part = Part("store", State.DEGRADED, "waiting for the database")
        return Health(self.participant.name, self.participant.saga.name, (part,))


def told(health: Health) -> dict[str, Any]:
    """Health as JSON has it: the verdict and its reasons first, then every part."""
    return {
        "state": health.state,
        "reasons": health.reasons,
        "participant": health.participant,
        "saga": health.saga,
        "parts": [{"name": part.name, "state": part.state, "text": part.text} for part in health.parts],
    }


def answer(worker: Worker | Opening, method: str, path: str) -> Answer:
    """What is said at the last segment of this path; a HEAD gets the same, and whoever sends it leaves the body out."""
    if (refused := refusal(method)) is not None:
        return refused
    page = path.partition("?")[0].rstrip("/").rpartition("/")[2]
    if page == "metrics":
        if isinstance(worker, Opening):
            if worker.worker is None:
                return as_json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "waiting for the database; no worker is there yet"})
            worker = worker.worker
        return Answer(HTTPStatus.OK, CONTENT_TYPE, exposition(worker).encode())
    if page not in ("livez", "readyz", "health"):
        return as_json(HTTPStatus.NOT_FOUND, {"error": f"there is no {path}; ask for /livez, /readyz, /health or /metrics"})
    health = worker.health()
    fine = {"livez": health.alive, "readyz": health.ready, "health": True}[page]
    return as_json(HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE, told(health))


def asgi(worker: Worker) -> Application:
    """An ASGI application for a mount or a route: `Mount("/saga", asgi(worker))` answers at `/saga/livez` and its like."""
    return application(lambda method, path: answer(worker, method, path))


def served(worker: Worker | Opening, address: str) -> AbstractContextManager[str]:
    """Answer at `host:port` (port 0: any) in a thread beside the caller's work; gives the URL.

    Raises DefinitionError for an address that is none, or on which nobody may listen.
    """
    return listening(lambda method, path: answer(worker, method, path), address, "health")
