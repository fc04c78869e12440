"""The bank's participants with a bug in their engine: `saga run tests.crash.planted:payee`, in processes that tests start.

`PLANTED` names the bug. Where it is the inbox that is recorded first, `PLANTED_DIES=n` kills the process the nth time it is
between the two transactions.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count

import pytest

from faults.bank.app import fraud, payee, payer
from tests import planted

__all__ = ["fraud", "payee", "payer"]

_passed = count(1)


def _die() -> None:
    if str(next(_passed)) == os.environ.get("PLANTED_DIES"):
        os.kill(os.getpid(), signal.SIGKILL)


_BUGS: Mapping[str, Callable[[pytest.MonkeyPatch], None]] = {
    "inbox_before_handler": partial(planted.inbox_before_handler, between=_die),
    "pivot_ignored": planted.pivot_ignored,
    "sequence_outside_the_lock": planted.sequence_outside_the_lock,
}

_BUGS[os.environ["PLANTED"]](pytest.MonkeyPatch())
