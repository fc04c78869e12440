"""Running the recording handler of an external step outside of a worker, for an outcome that a person states."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from saga.errors import LifecycleError, Refused
from saga.participant.handler import Handler
from saga.store.port import Transaction

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec


def record(handler: Handler, codec: AvroCodec, workflow_id: str, event: str, payload: bytes, tx: Transaction) -> None:
    """Have the service write the outcome to its own tables, in this transaction. Raises Refused where the handler fails.

    A handler that is a coroutine cannot be run from one: LifecycleError.
    """
    if handler.asynchronous and _inside_a_loop():
        raise LifecycleError(f"{handler.title} is a coroutine and cannot be run from one; resolve in a thread of its own")
    view = handler.inputs[0].views[event]
    before, tx.workflow_id = tx.workflow_id, workflow_id
    try:
        returned = handler.function(view.model_validate(codec.decode(event, payload)), tx)
        if handler.asynchronous:
            asyncio.run(returned)
    except Exception as error:
        raise Refused(f"{handler.title} failed for workflow {workflow_id}: {type(error).__name__}: {error}") from error
    finally:
        tx.workflow_id = before


def _inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
