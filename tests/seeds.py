"""Seeds of a simulation: a few of them on every run, all of them where there is time."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def seeds(count: int, *, fast: int) -> pytest.MarkDecorator:
    """The test is run with `seed` from 0 below `count`, those from `fast` on being slow."""
    return pytest.mark.parametrize("seed", some_slow(range(count), fast), ids=lambda seed: f"seed-{seed}")


def some_slow(values: Iterable[object], fast: int) -> list[object]:
    """The values, those from the `fast`th on marked slow."""
    return [value if n < fast else pytest.param(value, marks=pytest.mark.slow) for n, value in enumerate(values)]
