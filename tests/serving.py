"""What a missing server means to a test: a reason to skip on somebody's own machine, a failure in CI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from servers import Ladder, ServerMissing


@contextmanager
def serving(ladder: Ladder, environment: Mapping[str, str]) -> Iterator[str]:
    """The address of the ladder's server while the context is open."""
    with missing_is_told(environment), ladder.serving(environment, print) as address:
        yield address


@contextmanager
def missing_is_told(environment: Mapping[str, str]) -> Iterator[None]:
    """Skip, or in CI fail, the test inside of which a server turns out to be missing."""
    try:
        yield
    except ServerMissing as missing:
        if environment.get("CI") == "true":
            pytest.fail(f"a server is missing, and CI must have them all: {missing}")
        pytest.skip(str(missing))
