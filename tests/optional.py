"""What an environment may lack that was made before a library or toolchain was asked for: a skip, and in CI a failure."""

from __future__ import annotations

import os
from importlib.util import find_spec
from shutil import which

import pytest


def needs(library: str) -> pytest.MarkDecorator:
    """Skip where this library is not installed; in CI the test runs, and fails."""
    missing = find_spec(library) is None and os.environ.get("CI") != "true"
    return pytest.mark.skipif(missing, reason=f"{library} is not installed; run: make install")


def program(name: str, install: str) -> str:
    """The path of a program; skips the test that asks where there is none, and fails it in CI."""
    if (path := which(name)) is None:
        reason = f"{name} is not installed; {install}"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and CI must have it")
        pytest.skip(reason)
    return path
