"""Options that several commands share, declared once as the fields of a dataclass: a command takes them as one value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from inspect import Parameter
from typing import Any, get_type_hints


def spelt_out(command: Callable[..., None]) -> Callable[..., None]:
    """The command as a command line has it: each field of a parameter that is a dataclass is an option of its own.

    Typer asks a function for its parameters one by one. The fields come last in the help, with the defaults that they have.
    """
    own = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, type[Any]] = {
        name: one.annotation for name, one in own.items() if isinstance(one.annotation, type) and is_dataclass(one.annotation)
    }
    shared = {name: [_parameter(kind, field) for field in fields(kind)] for name, kind in groups.items()}

    @wraps(command)
    def spelt(**given: Any) -> None:
        made = {name: kind(**{one.name: given.pop(one.name) for one in shared[name]}) for name, kind in groups.items()}
        command(**given, **made)

    listed = [one.replace(kind=Parameter.KEYWORD_ONLY) for name, one in own.items() if name not in groups]
    listed += [one for group in shared.values() for one in group]
    spelt.__dict__["__signature__"] = inspect.Signature(listed)
    spelt.__annotations__ = {one.name: one.annotation for one in listed}
    return spelt


def _parameter(kind: Any, field: Field[Any]) -> Parameter:
    default = Parameter.empty if field.default is MISSING else field.default
    annotation = get_type_hints(kind, include_extras=True)[field.name]
    return Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
