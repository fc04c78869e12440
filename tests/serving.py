"""What a missing server means to a test: a reason to skip on somebody's own machine, a failure in CI."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest

from servers import Ladder, LocalServer, ServerMissing
from servers.programs import Report


@contextmanager
def serving(ladder: Ladder, environment: Mapping[str, str]) -> Iterator[str]:
    """The address of the ladder's server while the context is open."""
    with missing_is_told(environment), ladder.serving(environment, print) as address:
        yield address


@contextmanager
def own(local: Callable[[Report], LocalServer]) -> Iterator[LocalServer]:
    """A server that only this test has and may take away; not started yet."""
    with missing_is_told(os.environ):
        server = local(print)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def missing_is_told(environment: Mapping[str, str]) -> Iterator[None]:
    """Skip, or in CI fail, the test inside of which a server turns out to be missing."""
    try:
        yield
    except ServerMissing as missing:
        if environment.get("CI") == "true":
            pytest.fail(f"a server is missing, and CI must have them all: {missing}")
        pytest.skip(str(missing))
