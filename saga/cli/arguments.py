"""What several commands take: options by name, and the participant that `module:name` says."""

from __future__ import annotations

import getpass
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from types import ModuleType
from typing import Annotated, Any, TypeVar, cast

import typer

from saga.errors import DefinitionError
from saga.participant.participant import Participant
from saga.protocol.facts import WorkflowStatus
from saga.span import span_of

BIGGEST = 2**62
"""Of the numbers that a person may give; databases take little more."""

DatabaseUrl = Annotated[
    str | None, typer.Option("--database", metavar="URL", help="Instead of SAGA_DATABASE: sqlite:///relative.db")
]
BrokerServers = Annotated[str | None, typer.Option("--broker", metavar="HOST:PORT", help="Instead of SAGA_BROKER.")]
RegistryUrl = Annotated[
    str | None, typer.Option("--registry", metavar="URL", help="Instead of SAGA_REGISTRY: http://host:8080/apis/ccompat/v7")
]
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who asks; the login name where it is not said.")]
WhyNot = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the trace that it leaves.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the trace that it leaves.")]
Matching = Annotated[
    str | None,
    typer.Option("--all-matching", metavar="TEXT", help="All whose step and error, as `saga parked` has them, hold this."),
]
Parked = Annotated[bool, typer.Option("--parked", help="All whose handlers are suspended here.")]
StuckFor = Annotated[
    str | None, typer.Option("--stuck-for", metavar="SPAN", help="All open ones in which nothing went on for 1h, 2d.")
]
OfStatus = Annotated[WorkflowStatus | None, typer.Option("--status", help="All open ones of this status.")]
OfStep = Annotated[str | None, typer.Option("--step", metavar="NAME", help="That are parked at this step, or wait there.")]
OfSaga = Annotated[str | None, typer.Option("--saga", metavar="NAME", help="Only workflows of this saga.")]
OfVersion = Annotated[int | None, typer.Option("--version", metavar="N", max=BIGGEST, help="Only workflows of this version.")]
Limit = Annotated[
    int, typer.Option("--limit", metavar="N", min=1, max=BIGGEST, help="No more than this many, the longest waiting first.")
]
Most = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=BIGGEST, help="No more than this many.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done or refused, change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before many are touched.")]
Target = Annotated[str, typer.Argument(metavar="MODULE:PARTICIPANT", help="E.g. services.stock.app:stock")]

Named = TypeVar("Named")


def span(text: str, option: str) -> timedelta:
    """The span of time that an option says."""
    try:
        return span_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def person(by: str | None) -> str:
    """Who asks, for the audit trace."""
    if by:
        return by
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"


def participant(target: str) -> Participant:
    """The participant that `module:name` says, looked for in the working directory as well."""
    return named(target, Participant)


def named(target: str, kind: type[Named]) -> Named:
    """What `module:name` says, which must be of this kind, looked for in the working directory as well."""
    name, colon, attribute = target.partition(":")
    if not (name and colon and attribute):
        example = "services.stock.app:stock" if kind is Participant else "reports:orders_by_day"
        raise DefinitionError(f"found {target!r}; expected module:{kind.__name__.lower()}, e.g. {example}")
    module = _module(name)
    found = getattr(module, attribute, None)
    if isinstance(found, kind):
        return found
    what = f"{attribute!r} there is of type {type(found).__name__}" if found is not None else f"it has no {attribute!r}"
    others = ", ".join(f"{name}:{key}" for key, value in vars(module).items() if isinstance(value, kind))
    raise DefinitionError(
        f"module {name!r} was loaded from {module.__file__}, but {what}; expected a saga.{kind.__name__}. "
        f"{f'It has: {others}' if others else 'Create one there, or name another module.'}"
    )


def function(target: str) -> Callable[..., Any]:
    """The function that `module:name` says, looked for in the working directory as well."""
    name, _, attribute = target.partition(":")
    found = getattr(_module(name), attribute, None) if attribute else None
    if not callable(found):
        raise DefinitionError(f"found {target!r}, which is no function; expected module:function")
    return cast("Callable[..., Any]", found)


def _module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise DefinitionError(
                f"there is no module {error.name!r}, looked for in {os.getcwd()} and the installed packages; "
                f"change to the folder that holds it, or correct the name"
            ) from error
        raise _broken(name, error) from error
    except (DefinitionError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> DefinitionError:
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) else f"{last.filename}:{last.lineno}"
    return DefinitionError(
        f"module {name!r} fails while it is imported: {type(error).__name__}: {error} ({place}). "
        f"Correct it; `saga --debug` shows the traceback."
    )
