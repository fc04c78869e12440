"""What the observer answers over HTTP: its pages, and the same for programs. Reads only.

`/` and `/workflow?id=...` are for people, `/overview.json`, `/workflows.json` and `/workflow.json?id=...` say the same, and
`/metrics` is for Prometheus.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qs

from saga.contracts.saga import Saga
from saga.errors import RegistryUnavailable
from saga.observe.prometheus import CONTENT_TYPE
from saga.observe.serving import Answer, as_json, refusal
from saga.observer.figures import exposition
from saga.observer.observer import LISTED, Observer
from saga.observer.overview_page import overview_page
from saga.observer.workflow_page import workflow_page
from saga.protocol.facts import WorkflowStatus
from saga.replay.timeline import Timeline

_HTML = "text/html; charset=utf-8"


def answer(observer: Observer, method: str, path: str) -> Answer:
    """What is said at the last segment of this path."""
    if (refused := refusal(method)) is not None:
        return refused
    place, _, query = path.partition("?")
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    match place.rpartition("/")[2]:
        case "":
            return _overview(observer, asked)
        case "metrics":
            return Answer(HTTPStatus.OK, CONTENT_TYPE, exposition(observer.overview(), observer.clock.now()).encode())
        case "overview.json":
            return as_json(HTTPStatus.OK, observer.overview())
        case "workflows.json":
            found = observer.search(status=_status(asked), text=asked.get("text", ""), limit=LISTED + 1)
            return as_json(HTTPStatus.OK, {"workflows": found[:LISTED], "more": len(found) > LISTED})
        case "workflow" | "workflow.json" as page:
            return _workflow(observer, asked.get("id", ""), is_page=page == "workflow")
    return as_json(
        HTTPStatus.NOT_FOUND,
        {"error": f"there is no {place}; ask for /, /overview.json, /workflows.json, /metrics or /workflow?id="},
    )


def _overview(observer: Observer, asked: Mapping[str, str]) -> Answer:
    status, text = _status(asked), asked.get("text", "")
    found = observer.search(status=status, text=text)
    saga, now = observer.contracts.latest, observer.clock.now()
    return _page(overview_page(saga, observer.overview(), found, status, text, observer.size, now))


def _workflow(observer: Observer, id: str, *, is_page: bool) -> Answer:
    try:
        told = observer.timeline(id)
    except RegistryUnavailable as error:
        return as_json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": f"workflow {id!r} cannot be read now: {error}"})
    if told is None:
        why = "it has ended, and is not held any more; ask the topics: saga trace" if observer.is_let_go(id) else "check the id"
        return as_json(HTTPStatus.NOT_FOUND, {"error": f"nothing is known of workflow {id!r}: {why}"})
    return _page(workflow_page(_saga(observer, told), told, observer.clock.now())) if is_page else as_json(HTTPStatus.OK, told)


def _saga(observer: Observer, told: Timeline) -> Saga:
    """The version in which it runs, with all of its steps; the latest where that is not known."""
    sagas = observer.contracts.sagas
    return sagas.get(told.state.version, observer.contracts.latest) if told.state is not None else observer.contracts.latest


def _status(asked: Mapping[str, str]) -> WorkflowStatus | None:
    """That of the query; whatever is none stands for any."""
    return {status.value: status for status in WorkflowStatus}.get(asked.get("status", ""))


def _page(text: str) -> Answer:
    return Answer(HTTPStatus.OK, _HTML, text.encode())
