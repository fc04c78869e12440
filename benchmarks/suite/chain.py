"""A saga of any number of steps in a row, of two participants who take turns, so that every step goes over Kafka."""

from __future__ import annotations

from typing import Any

from benchmarks.workload import BUSINESS, Order, record
from saga import Event, Participant, Saga, Transaction

OWNERS = ("even", "odd")


def events(steps: int) -> list[type[Event]]:
    """An event for each step."""
    return [type(f"Step{number}", (Order,), {"__module__": __name__, "__doc__": "One step."}) for number in range(steps)]


def saga(name: str, kinds: list[type[Event]]) -> Saga:
    """The first step begins it, the last completes it and is its pivot."""

    def step(number: int) -> dict[str, Any]:
        kind, last = kinds[number].__name__, number == len(kinds) - 1
        said: dict[str, Any] = {"by": OWNERS[number % 2], "emits": [kind]}
        said |= {"on": [kinds[number - 1].__name__]} if number else {}
        said |= {} if last else {"compensated": None}
        return {"name": f"step{number}", "type": ["null", kind], "default": None, "step": said}

    head = {"name": name, "version": 1, "owner": OWNERS[0]}
    fields = [step(number) for number in range(len(kinds))]
    return Saga.of(
        *(record(kind, "chain") for kind in kinds),
        {"type": "record", "name": "Chain", "namespace": "chain", "saga": head, "fields": fields},
    )


def participants(name: str, steps: int) -> dict[str, Participant]:
    """Both, each handler with one business statement."""
    kinds = events(steps)
    bench = saga(name, kinds)
    found = {owner: Participant(owner, bench) for owner in OWNERS}

    def declare(number: int) -> None:
        def act(order: Any, tx: Transaction) -> Any:
            tx.execute(BUSINESS, (order.account,))
            return kinds[number](**order.__dict__)

        act.__annotations__ = {"order": kinds[number - 1], "tx": Transaction, "return": kinds[number]}
        found[OWNERS[number % 2]].step(act, step=f"step{number}")  # type: ignore[call-overload]

    for number in range(1, steps):
        declare(number)
    return found


def first(steps: int) -> type[Event]:
    """What begins it."""
    return events(steps)[0]
