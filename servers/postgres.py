"""PostgreSQL: one cluster for all, and a fresh database for whoever asks."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from servers.container import Image, running
from servers.errors import ServerFailed
from servers.process import LOOPBACK, LocalServer, free_port, run, workspace
from servers.programs import Report, postgres, unprivileged

VERSION = "17.6"
IMAGE = f"postgres:{VERSION}"

SETTINGS: Mapping[str, str] = {"fsync": "on", "synchronous_commit": "on", "max_connections": "200"}
TRUST: Mapping[str, str] = {"POSTGRES_HOST_AUTH_METHOD": "trust"}


def fetch(report: Report) -> None:
    """Get what `local` needs, which may take minutes on a new machine."""
    postgres(report)


def local(report: Report, *, tethered: bool = True) -> LocalServer:
    """A cluster on this machine, initialised and not yet started; its address is the superuser's URL."""
    programs, user = postgres(report), unprivileged()  # it refuses to run as root
    home, port = workspace("postgres", user), free_port()
    choices = ["--pgdata=data", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    run("initdb", [str(programs / "initdb"), *choices], cwd=home, user=user)
    own = {**SETTINGS, "listen_addresses": LOOPBACK, "port": str(port), "unix_socket_directories": ""}
    return LocalServer(
        "postgres",
        f"postgresql://postgres@{LOOPBACK}:{port}/postgres",
        home,
        [str(programs / "postgres"), "-D", "data", *options(own)],
        answers,
        user=user,
        end=signal.SIGQUIT,  # killed outright, it would leave its shared memory behind
        tethered=tethered,
    )


def replica(report: Report, of: LocalServer) -> LocalServer:
    """A copy of a running server that follows it, not yet started; `promote` has it take over."""
    programs, user = postgres(report), unprivileged()
    home, port = workspace("postgres-replica", user), free_port()
    copying = ["-d", of.address, "-D", "data", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
    run("pg_basebackup", [str(programs / "pg_basebackup"), *copying], cwd=home, user=user)
    command = [f"port={port}" if argument.startswith("port=") else argument for argument in of.command]
    address = urlsplit(of.address)._replace(netloc=f"postgres@{LOOPBACK}:{port}").geturl()
    return LocalServer("postgres-replica", address, home, command, answers, user=user, end=of.end, tethered=of.tethered)


def promote(replica: LocalServer) -> None:
    """Return once it takes writes."""
    with psycopg.connect(replica.address, autocommit=True) as connection:
        connection.execute("SELECT pg_promote()")


@contextmanager
def containerised() -> Iterator[str]:
    """The superuser's URL of a server in Docker; raises ServerMissing when Docker cannot run it."""
    image = Image("postgres", IMAGE, 5432, TRUST, command=["postgres", *options(SETTINGS)])
    with running(image, "postgresql://postgres@{host}:{port}/postgres", answers) as address:
        yield address


def options(settings: Mapping[str, str]) -> list[str]:
    """The settings as arguments of the server's command."""
    return [argument for key, value in settings.items() for argument in ("-c", f"{key}={value}")]


def answers(address: str) -> bool:
    """Whether the server at `address` runs a statement."""
    try:
        with psycopg.connect(address, connect_timeout=10) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


@contextmanager
def fresh_database(address: str, template: str = "template1") -> Iterator[str]:
    """The URL of a new database on the server at `address`, a copy of `template`; it is dropped at the end, whoever uses it.

    Raises ServerFailed when `address` is not a URL. Nobody may be connected to the template.
    """
    url = urlsplit(address)
    if url.scheme not in ("postgresql", "postgres"):
        raise ServerFailed(
            f"the address of PostgreSQL is {address!r}; expected a URL such as postgresql://user@host:5432/postgres"
        )
    name = f"t_{uuid.uuid4().hex[:12]}"
    database = sql.Identifier(name)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(database, sql.Identifier(template)))
    try:
        yield url._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
