"""The public names: a sorted list, exactly what the namespace holds, each with a sentence of its own."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

import saga


def test_all_is_sorted_and_equal_to_what_the_namespace_holds() -> None:
    held = [name for name, value in vars(saga).items() if not name.startswith("_") and not isinstance(value, ModuleType)]

    assert saga.__all__ == sorted(held)


@pytest.mark.parametrize("name", saga.__all__)
def test_a_public_name_says_what_it_is(name: str) -> None:
    said = vars(getattr(saga, name)).get("__doc__") or ""

    assert said, f"{name} has no docstring"
    assert not said.startswith(f"{name}("), f"{name} has only the docstring that dataclasses make"


@pytest.mark.parametrize(
    "name", ["start", "abort", "resolve", "step", "compensation", "recording", "dependency", "classify", "check"]
)
def test_a_public_method_says_what_it_guarantees(name: str) -> None:
    assert inspect.getdoc(getattr(saga.Participant, name))


def test_the_errors_that_are_drawn_are_those_that_there_are() -> None:
    """The tree in the docstring of `saga.errors` is the real one."""
    drawn = [line.split("──")[1].split()[0] for line in (saga.errors.__doc__ or "").splitlines() if "──" in line]

    def below(kind: type[BaseException]) -> list[str]:
        children = [child for child in kind.__subclasses__() if child.__module__ == "saga.errors"]
        return [name for child in children for name in (child.__name__, *below(child))]

    assert drawn == below(saga.SagaError)
