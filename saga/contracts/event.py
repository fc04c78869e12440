"""The class a service writes for an event: its own view of the contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeGuard

from pydantic import BaseModel, ConfigDict

from saga.errors import DefinitionError


class Event(BaseModel):
    """A fact in the past tense, as one service sees it.

    Subclass it with the fields this service needs; fields of the contract that are not named are ignored on reading. A view
    that is returned from a handler must name every field that has no default in the contract. The class name is the event's
    name in the saga's namespace; `class Placed(Event, name="OrderPlaced")` says otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)
    event_name: ClassVar[str] = ""

    def __init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.event_name = name or cls.__name__

    @classmethod
    def __pydantic_init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)


def is_event(kind: object) -> TypeGuard[type[Event]]:
    """Whether it is the class of an event."""
    return isinstance(kind, type) and issubclass(kind, Event)


def require_events(found: Sequence[object], decorator: str) -> None:
    """Raises DefinitionError unless all are classes of events: a function that is decorated without any would be lost."""
    if not found or not all(map(is_event, found)):
        told = ", ".join(str(getattr(each, "__name__", repr(each))) for each in found)
        raise DefinitionError(
            f"found .{decorator}({told}); expected the classes of one event or more, as in .{decorator}(OrderPlaced)"
        )
