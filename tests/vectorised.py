"""The same participants with vectorised handlers, and the sizes of the batches they were called with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from saga import Participant, Transaction
from saga.participant.handler import Act, Handler


def vectorise(participants: Iterable[Participant], sizes: list[int] | None = None) -> list[Participant]:
    """Have every handler take all its workflows of a unit at once, and do for each what it did before."""
    made = [*participants]
    for participant in made:
        participant.handlers = {key: _together(handler, sizes) for key, handler in participant.handlers.items()}
    return made


def _together(handler: Handler, sizes: list[int] | None) -> Handler:
    if handler.act not in (Act.ACTION, Act.COMPENSATION):
        return handler
    loop = _awaited if handler.asynchronous else _called
    return replace(handler, batch=True, function=loop(handler.function, [] if sizes is None else sizes))


def _called(function: Callable[..., Any], sizes: list[int]) -> Callable[..., Any]:
    def vectorised(*lists_and_tx: Any) -> list[Any]:
        *lists, tx = lists_and_tx
        sizes.append(len(tx.workflow_ids))
        return [function(*row, _of_one(tx, id)) for id, *row in zip(tx.workflow_ids, *lists, strict=True)]

    return vectorised


def _awaited(function: Callable[..., Any], sizes: list[int]) -> Callable[..., Any]:
    async def vectorised(*lists_and_tx: Any) -> list[Any]:
        *lists, tx = lists_and_tx
        sizes.append(len(tx.workflow_ids))
        return [await function(*row, _of_one(tx, id)) for id, *row in zip(tx.workflow_ids, *lists, strict=True)]

    return vectorised


def _of_one(tx: Transaction, workflow_id: str) -> Transaction:
    tx.workflow_id = workflow_id
    return tx
