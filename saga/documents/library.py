"""All documents of some sagas as files by relative path: the same contracts always give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from saga.contracts.saga import Saga
from saga.documents.asyncapi import asyncapi
from saga.errors import DefinitionError
from saga.protocol.diagram import mermaid


def library(sagas: Sequence[Saga]) -> dict[str, str]:
    """The files of these sagas, each saga in a folder of its name. Raises DefinitionError for two sagas of one name."""
    names = [saga.name for saga in sagas]
    for name in names:
        if names.count(name) > 1:
            raise DefinitionError(
                f"found two sagas {name!r}; expected one folder for each, so run `saga docs` for one at a time"
            )
    return {f"{saga.name}/{path}": content for saga in sagas for path, content in _of_saga(saga).items()}


def _of_saga(saga: Saga) -> Mapping[str, str]:
    files = {"asyncapi.json": _json(asyncapi(saga)), "diagram.mmd": f"{mermaid(saga)}\n"}
    for participant in sorted(saga.participants):
        files[f"participants/{participant}.asyncapi.json"] = _json(asyncapi(saga, participant))
    return files


def _json(document: Mapping[str, Any]) -> str:
    return f"{orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()}\n"
