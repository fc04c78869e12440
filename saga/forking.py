"""Processes that are forked from this one: whoever holds connections or locks begins anew there, since both would use them."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Holder(Protocol):
    """Holds what a forked process must not use."""

    def begin_anew(self) -> None:
        """Called in the forked process, in the only thread that it has, before anything else is done there."""


_holders: WeakSet[Holder] = WeakSet()


def tell_of_forks(holder: Holder) -> None:
    """Have it begin anew in every process that is forked from this one while it lives."""
    _holders.add(holder)


def _begin_anew() -> None:
    for holder in [*_holders]:
        holder.begin_anew()


os.register_at_fork(after_in_child=_begin_anew)
