"""A plugin of pytest: the fixture `saga_env`. Nothing of the library is loaded before a test asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from saga.participant.participant import Participant
    from saga.store.port import Transaction
    from saga.testing.environment import Environment

    Prepare = Callable[[str, Transaction], None]


@pytest.fixture
def saga_env() -> Iterator[Callable[..., Environment]]:
    """Makes fleets that end with the test: `env = saga_env(orders, stock, payments, prepare=tables)`.

    `prepare(participant, tx)` makes the tables that the handlers need; further options are those of `Harness`.
    """
    from saga.testing.environment import Environment

    with ExitStack() as ends:

        def make(*participants: Participant, prepare: Prepare | None = None, **options: Any) -> Environment:
            env = ends.enter_context(Environment(*participants, **options))
            for name in env.participants if prepare is not None else ():
                with env.transaction(name) as tx:
                    assert prepare is not None
                    prepare(name, tx)
            return env

        yield make
