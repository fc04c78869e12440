"""What a service's own events leave in its own tables: pure functions of events, by which those tables can be built again.

They are declared beside the step handlers and never called by a worker. Only what an event and its causes say may go into the
rows, and nothing may be done but writing them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from saga.contracts.event import Event
from saga.contracts.saga import Saga
from saga.errors import ContractError, DefinitionError
from saga.participant import handler
from saga.participant.handler import Handler, Input
from saga.participant.versions import Versions
from saga.protocol.definition import Step

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec

Evolve = TypeVar("Evolve", bound=Callable[..., None])


class Evolution:
    """By saga version and event, the function that writes what the event leaves; None where it leaves nothing."""

    def __init__(self, participant: str, versions: Versions) -> None:
        self.participant, self.versions = participant, versions
        self.by_event: dict[tuple[int, str], Handler | None] = {}

    def add(self, function: Callable[..., None], views: tuple[type[Event], ...], *, batch: bool) -> None:
        """Declare `function` for these own events, in every version that has them; with `batch` for many at once."""
        for view in views:
            for saga, step, event in self._places(view):
                self._put(saga, event, handler.evolve(saga, step, event, function, batch=batch))

    def add_nothing(self, views: tuple[type[Event], ...]) -> None:
        """Declare that these own events leave nothing."""
        for view in views:
            for saga, _, event in self._places(view):
                self._put(saga, event, None)

    def missing(self) -> list[str]:
        """The own events of which nothing is said, the earliest version first."""
        found = ((saga.version, event) for saga in self.versions for _, event in _own(saga, self.participant))
        return list(dict.fromkeys(event for version, event in found if (version, event) not in self.by_event))

    def _places(self, view: type[Event]) -> list[tuple[Saga, Step, str]]:
        found = []
        for saga in self.versions:
            own = {event: step for step, event in _own(saga, self.participant)}
            names = (view.event_name, f"{saga.namespace}.{view.event_name}")
            found += [(saga, own[event], event) for event in names if event in own]
        if not found:
            mine = sorted({event for saga in self.versions for _, event in _own(saga, self.participant)})
            raise DefinitionError(
                f"participant {self.participant!r} does not state {view.event_name}; its own events are {', '.join(mine)}"
            )
        return found

    def _put(self, saga: Saga, event: str, bound: Handler | None) -> None:
        if (saga.version, event) in self.by_event:
            raise DefinitionError(f"what {event} leaves is declared twice for {self.participant!r}; keep one of them")
        self.by_event[saga.version, event] = bound


def views(bound: Handler, codec: AvroCodec, event: str, payloads: Mapping[str, bytes]) -> list[Event | None]:
    """What the function is called with for one event, but for `tx`; `payloads` are its bytes and those of what it came of.

    Raises ContractError for what cannot be read, or where an event is missing that the function insists on.
    """
    first, *others = bound.inputs
    return [_view(codec, first.views[event], event, payloads), *(_came_of(bound, codec, one, payloads) for one in others)]


def _came_of(bound: Handler, codec: AvroCodec, parameter: Input, payloads: Mapping[str, bytes]) -> Event | None:
    for name, view in parameter.views.items():
        if name in payloads:
            return _view(codec, view, name, payloads)
    if parameter.optional:
        return None
    wanted = " or ".join(parameter.views)
    raise ContractError(f"{bound.title} needs {wanted}, which is not on the topics any more")


def _view(codec: AvroCodec, view: type[Event], name: str, payloads: Mapping[str, bytes]) -> Event:
    try:
        return view.model_validate(codec.decode(name, payloads[name]))
    except ValueError as error:
        raise ContractError(f"event {name} does not fit {view.__name__}: {error}") from error


def _own(saga: Saga, participant: str) -> Iterator[tuple[Step, str]]:
    for step in saga.owned(participant):
        undoing = [step.compensated] if isinstance(step.compensated, str) else []
        yield from ((step, event) for event in (*step.outcomes, *undoing))
