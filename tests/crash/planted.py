"""The bank's participants with a bug in their engine: `saga run tests.crash.planted:payee`, in processes that tests start.

`PLANTED` names the bug. Where it is the inbox that is recorded first, `PLANTED_DIES=STEP` kills the process the first time it
is between the two transactions of what begins with a fact of that step: of others there may be nothing to lose but the news.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pytest

from faults.bank.app import fraud, payee, payer
from saga.contracts.message import Message
from tests import planted

__all__ = ["fraud", "payee", "payer"]


def _die(taken: Sequence[Message]) -> None:
    if os.environ.get("PLANTED_DIES") in {message.fact.step for message in taken}:
        os.kill(os.getpid(), signal.SIGKILL)


_BUGS: Mapping[str, Callable[[pytest.MonkeyPatch], None]] = {
    "inbox_before_handler": partial(planted.inbox_before_handler, between=_die),
    "pivot_ignored": planted.pivot_ignored,
    "sequence_outside_the_lock": planted.sequence_outside_the_lock,
}

_BUGS[os.environ["PLANTED"]](pytest.MonkeyPatch())
