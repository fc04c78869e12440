"""The event that an operator states, given once for many workflows: a text with places that each of them fills in. Pure.

`{workflow}` is the workflow's id, `{result.NAME}` a field of the event with which the step's action ended. A text that is one
place and nothing else takes the value itself, a number as a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from saga.errors import DefinitionError, Refused

_PLACE = re.compile(r"\{(workflow|result\.\w+)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """An event by name, and its fields as they were given."""

    event: str
    fields: Mapping[str, Any]

    @property
    def asks_for_results(self) -> bool:
        """Whether a field of the step's own result is to be filled in."""
        return "{result." in orjson.dumps(self.fields).decode()

    def filled(self, workflow_id: str, result: Mapping[str, Any]) -> dict[str, Any]:
        """The fields for one workflow; raises Refused where its step recorded no such result."""
        known = {"workflow": workflow_id, **{f"result.{name}": value for name, value in result.items()}}
        return {name: _filled(value, known) for name, value in self.fields.items()}


def template(event: str, fields: str | None) -> Template:
    """What `--event NAME --fields JSON` or `--event FILE.json` say."""
    if not event.endswith(".json"):
        return Template(event, _object(fields or "{}", "--fields"))
    if fields is not None:
        raise DefinitionError(f"found --fields beside --event {event}; the file says both: remove --fields")
    try:
        given = _object(Path(event).read_text(encoding="utf-8"), event)
    except OSError as error:
        raise DefinitionError(f"--event {event} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DefinitionError(f"--event {event} is no UTF-8: {error}; expected an object as JSON") from error
    if given.keys() != {"event", "fields"} or not isinstance(given["event"], str) or not isinstance(given["fields"], dict):
        raise DefinitionError(f'{event} holds {", ".join(given) or "nothing"}; expected {{"event": NAME, "fields": {{...}}}}')
    return Template(given["event"], given["fields"])


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DefinitionError(f"{where} is no JSON: {error}; expected an object") from error
    if not isinstance(given, dict):
        raise DefinitionError(f"found {where} {text}; expected an object of the event's fields")
    return given


def _filled(value: Any, known: Mapping[str, Any]) -> Any:
    match value:
        case str():
            whole = _PLACE.fullmatch(value)
            return _of(known, whole[1]) if whole else _PLACE.sub(lambda place: str(_of(known, place[1])), value)
        case list():
            return [_filled(item, known) for item in value]
        case dict():
            return {name: _filled(item, known) for name, item in value.items()}
    return value


def _of(known: Mapping[str, Any], place: str) -> Any:
    if place not in known:
        found = ", ".join(f"{{{name}}}" for name in known)
        raise Refused(f"{{{place}}} in the event cannot be filled in: the step recorded no such field; found {found}")
    return known[place]
