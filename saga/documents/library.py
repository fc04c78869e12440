"""All documents of some sagas as files by relative path: the same contracts always give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from saga.contracts.saga import Saga
from saga.contracts.schema import full_name
from saga.documents.asyncapi import asyncapi
from saga.documents.html.address import Address, events
from saga.documents.html.event_page import event_page
from saga.documents.html.index_page import index_page
from saga.documents.html.participant_page import participant_page
from saga.documents.html.saga_page import saga_page
from saga.documents.past import Past
from saga.errors import DefinitionError
from saga.protocol.diagram import mermaid


def library(sagas: Sequence[tuple[Saga, Past]], *, partitions: int | None = None) -> dict[str, str]:
    """The files of these sagas, each saga in a folder of its name. Raises DefinitionError for two sagas of one name."""
    names = [saga.name for saga, _ in sagas]
    for name in names:
        if names.count(name) > 1:
            raise DefinitionError(
                f"found two sagas {name!r}; expected one folder for each, so run `saga docs` for one at a time"
            )
    files = {
        f"{saga.name}/{path}": content for saga, told in sagas for path, content in _of_saga(saga, told, partitions).items()
    }
    return {"index.html": index_page([saga for saga, _ in sagas]), **files}


def _of_saga(saga: Saga, past: Past, partitions: int | None) -> Mapping[str, str]:
    address = Address(saga, "")
    files = {
        "index.html": saga_page(saga, past.get(full_name(saga.own, ""), ())),
        "asyncapi.json": _json(asyncapi(saga, partitions=partitions)),
        "diagram.mmd": f"{mermaid(saga)}\n",
    }
    for participant in sorted(saga.participants):
        files[address.participant(participant)] = participant_page(saga, participant)
        files[f"participants/{participant}.asyncapi.json"] = _json(asyncapi(saga, participant, partitions=partitions))
    for event in events(saga):
        files[address.event(event)] = event_page(saga, event, past.get(event, ()))
    return files


def _json(document: Mapping[str, Any]) -> str:
    return f"{orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()}\n"
