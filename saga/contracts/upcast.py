"""Old events read as new ones, where a change is too great for one contract: pure functions from old fields to new.

An event that would misread the past is not changed but followed by another; what was written under the old name is then raised
to the new one when it is read. Nothing on the topics is touched.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_origin, get_type_hints

from saga.contracts.event import Event, is_event
from saga.errors import DecodeError, DefinitionError

Fields = dict[str, Any]
"""An event as its contract names its fields, values as Python types."""
Raise = TypeVar("Raise", bound=Callable[[Any], Any])


class Upcasters:
    """The functions by the event that they take. One for each, so that there is one way from an old event to a new one."""

    def __init__(self) -> None:
        self._steps: dict[str, tuple[str, Callable[[Any], Any], type[Event] | None]] = {}

    def upcast(self, old: str, *, to: str) -> Callable[[Raise], Raise]:
        """Declare how the event `old` becomes the event `to` (full names); the function comes back untouched.

        It takes the old event and returns the new one, each as `Fields` or as a view, says so in its annotations, and does
        nothing else. Raises DefinitionError for one that is not annotated, a second one for an event, and a circle.
        """

        def declare(function: Raise) -> Raise:
            view = _view(function)
            if old in self._steps:
                raise DefinitionError(
                    f"{function.__name__}: {old} is raised to {self._steps[old][0]} already; keep one of them"
                )
            if old == to or old in self._way(to):
                way = " to ".join([old, *self._way(to)])
                raise DefinitionError(f"{function.__name__}: {way} is a circle; an event is raised to a newer one only")
            self._steps[old] = to, function, view
            return function

        return declare

    def leads(self, old: str, new: str) -> bool:
        """Whether there is a way from the old event to the new one."""
        return old != new and new in self._way(old)

    @property
    def olds(self) -> frozenset[str]:
        """The events that are raised."""
        return frozenset(self._steps)

    def raised(self, old: str, new: str, fields: Mapping[str, Any]) -> Fields:
        """The old event's fields as those of the new one; raises DecodeError that names the function that failed."""
        found, name = dict(fields), old
        while name != new:
            to, function, view = self._steps[name]
            try:
                returned = function(view.model_validate(found) if view is not None else found)
                found = returned.model_dump() if isinstance(returned, Event) else dict(returned)
            except Exception as error:
                told = f"event {name} cannot be raised to {to}: {function.__name__} failed with {type(error).__name__}"
                raise DecodeError(told) from error
            name = to
        return found

    def _way(self, name: str) -> list[str]:
        """The event and those that it is raised to, one after the other."""
        way = [name]
        while way[-1] in self._steps:
            way.append(self._steps[way[-1]][0])
        return way


def _view(function: Callable[[Any], Any]) -> type[Event] | None:
    """The view that the function takes, None for `Fields`."""
    hints, names = get_type_hints(function), [*inspect.signature(function).parameters]
    kinds = [hints.get(name) for name in (*names, "return")]
    if len(names) != 1 or not all(_is_event(kind) for kind in kinds):
        found = ", ".join(f"{name}: {hints.get(name, 'nothing')}" for name in (*names, "return"))
        raise DefinitionError(
            f"{getattr(function, '__name__', function)}: found {found}; expected one event in and one out, "
            f"each annotated as dict[str, Any] or as an Event class"
        )
    return kinds[0] if is_event(kinds[0]) else None


def _is_event(kind: Any) -> bool:
    return get_origin(kind) is dict or is_event(kind)
