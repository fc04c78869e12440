"""What a service's own events leave in its own tables: pure functions of events, by which those tables can be built again.

They are declared beside the step handlers and never called by a worker. Only what an event and its causes say may go into the
rows, and nothing may be done but writing them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from saga.contracts.event import Event
from saga.contracts.saga import Saga
from saga.contracts.upcast import Upcasters
from saga.errors import ContractError, DefinitionError
from saga.participant import handler
from saga.participant.handler import Handler, Input
from saga.participant.versions import Versions
from saga.protocol.definition import Step

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec

Evolve = TypeVar("Evolve", bound=Callable[..., None])


class Evolution:
    """By saga version and event, the function that writes what the event leaves; None where it leaves nothing.

    What is said of an event holds for those that `upcasters` raise to it as well, unless something is said of such a one.
    """

    def __init__(self, participant: str, versions: Versions, upcasters: Upcasters) -> None:
        self.participant, self.versions, self.upcasters = participant, versions, upcasters
        self.by_event: dict[tuple[int, str], Handler | None] = {}
        self._raised: set[tuple[int, str]] = set()

    def add(self, function: Callable[..., None], views: tuple[type[Event], ...], *, batch: bool) -> None:
        """Declare `function` for these own events, in every version that has them; with `batch` for many at once."""
        for view in views:
            for saga, step, event in self._places(view):
                self._put(saga, view, event, handler.evolve(saga, step, event, function, self.upcasters, batch=batch))

    def add_nothing(self, views: tuple[type[Event], ...]) -> None:
        """Declare that these own events leave nothing."""
        for view in views:
            for saga, _, event in self._places(view):
                self._put(saga, view, event, None)

    def missing(self) -> list[str]:
        """The own events of which nothing is said, the earliest version first."""
        found = ((saga.version, event) for saga in self.versions for _, event in _own(saga, self.participant))
        return list(dict.fromkeys(event for version, event in found if (version, event) not in self.by_event))

    def _places(self, view: type[Event]) -> list[tuple[Saga, Step, str]]:
        found = []
        for saga in self.versions:
            own = {event: step for step, event in _own(saga, self.participant)}
            names = [name for name in _names(saga, view) if name in own]
            olds = [old for old in own if any(self.upcasters.leads(old, name) for name in _names(saga, view))]
            found += [(saga, own[event], event) for event in names or olds]
        if not found:
            mine = sorted({event for saga in self.versions for _, event in _own(saga, self.participant)})
            raise DefinitionError(
                f"participant {self.participant!r} does not state {view.event_name}; its own events are {', '.join(mine)}"
            )
        return found

    def _put(self, saga: Saga, view: type[Event], event: str, bound: Handler | None) -> None:
        place, is_raised = (saga.version, event), event not in _names(saga, view)
        if place in self.by_event and is_raised is (place in self._raised):
            raise DefinitionError(f"what {event} leaves is declared twice for {self.participant!r}; keep one of them")
        if is_raised and place in self.by_event:
            return  # what is said of the old event itself holds
        self.by_event[place] = bound
        (self._raised.add if is_raised else self._raised.discard)(place)


def views(bound: Handler, codec: AvroCodec, event: str, payloads: Mapping[str, bytes]) -> list[Event | None]:
    """What the function is called with for one event, but for `tx`; `payloads` are its bytes and those of what it came of.

    Raises ContractError for what cannot be read, or where an event is missing that the function insists on.
    """
    first, *others = bound.inputs
    return [_view(codec, first, event, payloads), *(_came_of(bound, codec, one, payloads) for one in others)]


def _came_of(bound: Handler, codec: AvroCodec, parameter: Input, payloads: Mapping[str, bytes]) -> Event | None:
    for name in parameter.views:
        if name in payloads:
            return _view(codec, parameter, name, payloads)
    if parameter.optional:
        return None
    wanted = " or ".join(parameter.views)
    raise ContractError(f"{bound.title} needs {wanted}, which is not on the topics any more")


def _view(codec: AvroCodec, parameter: Input, name: str, payloads: Mapping[str, bytes]) -> Event:
    try:
        return parameter.read(codec, name, payloads[name])
    except ValueError as error:
        raise ContractError(f"event {name} does not fit {parameter.views[name].__name__}: {error}") from error


def _names(saga: Saga, view: type[Event]) -> tuple[str, str]:
    return view.event_name, f"{saga.namespace}.{view.event_name}"


def _own(saga: Saga, participant: str) -> Iterator[tuple[Step, str]]:
    for step in saga.owned(participant):
        undoing = [step.compensated] if isinstance(step.compensated, str) else []
        yield from ((step, event) for event in (*step.outcomes, *undoing))
