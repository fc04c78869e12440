"""The real servers as fixtures: each is started when a test first asks for it, and stopped when the last test has ended.

`servers` is imported only then, so that the fast tests do not pay for the servers' clients.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("on any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("on any machine")

_SERVERS = ("kafka", "postgres", "registry")


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """The bootstrap address of a broker that makes no topic by itself; all tests share it, so use topic names of your own."""
    yield from _served("kafka")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The superuser's URL of a server that all tests share."""
    yield from _served("postgres")


@pytest.fixture(scope="session")
def registry() -> Iterator[str]:
    """The URL of a schema registry that all tests share, as Confluent's client takes it."""
    yield from _served("registry")


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """The URL of an empty database that only this test has."""
    from servers import fresh_database

    with fresh_database(postgres) as url:
        yield url


def pytest_configure() -> None:
    """Settings of whoever runs the tests are none of theirs, nor of the processes that they start."""
    for name in [name for name in os.environ if name.startswith("SAGA_") and not name.startswith("SAGA_TEST_")]:
        del os.environ[name]
    from servers.programs import SHORT_LIVED

    os.environ.setdefault("JAVA_TOOL_OPTIONS", SHORT_LIVED)  # servers of tests live for minutes


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch what the chosen tests will need before the first of them begins, so that no test's timeout pays for a download."""
    wanted = {name for item in session.items if isinstance(item, pytest.Function) for name in item.fixturenames}
    if session.config.option.collectonly or wanted.isdisjoint(_SERVERS):
        return
    from servers import LADDERS, ServerFailed, ServerMissing

    for name in sorted(wanted.intersection(_SERVERS)):
        with suppress(ServerMissing, ServerFailed):  # the fixture tells, in the tests that asked for it
            LADDERS[name].prepare(os.environ, print)


def _served(name: str) -> Iterator[str]:
    from servers import LADDERS
    from tests.serving import serving

    with serving(LADDERS[name], os.environ) as address:
        yield address
