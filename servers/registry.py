"""The schema registry: Apicurio with its Confluent-compatible interface; what it knows goes with its folder or container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from servers.classes import kept
from servers.container import Image, running
from servers.maven import archive
from servers.process import LOOPBACK, LocalServer, free_port, workspace
from servers.programs import SHORT_LIVED, Report, java

VERSION = "3.0.9"
IMAGE = f"apicurio/apicurio-registry:{VERSION}"
ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
PATH = "/apis/ccompat/v7"

SETTINGS: Mapping[str, str] = {
    "APICURIO_STORAGE_KIND": "sql",
    "APICURIO_STORAGE_SQL_KIND": "h2",
    "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
}
_JVM = ("-Xmx384m", "-XX:+UseSerialGC", SHORT_LIVED)


def fetch(report: Report) -> None:
    """Get what `local` needs, which may take minutes on a new machine."""
    _program(report)


def local(report: Report, *, tethered: bool = True) -> LocalServer:
    """A registry on this machine, not yet started; its address is the URL that Confluent's clients take."""
    return _single(_program(report), tethered=tethered)


def _program(report: Report) -> list[str]:
    machine, folder = str(java(report)), archive(f"apicurio-registry-{VERSION}", ARTIFACT, report)
    runner = folder / f"apicurio-registry-app-{VERSION}-runner.jar"
    return kept(f"apicurio-registry-{VERSION}", [machine, *_JVM, "-jar", str(runner)], _single, report)


def _single(program: Sequence[str], *, tethered: bool = True) -> LocalServer:
    port, home = free_port(), workspace("registry")
    address = f"http://{LOOPBACK}:{port}{PATH}"
    environment = {
        **SETTINGS,
        "APICURIO_DATASOURCE_URL": f"jdbc:h2:file:{home}/schemas",
        "QUARKUS_HTTP_HOST": LOOPBACK,
        "QUARKUS_HTTP_PORT": str(port),
    }
    return LocalServer("registry", address, home, program, answers, environment=environment, tethered=tethered)


@contextmanager
def containerised() -> Iterator[str]:
    """The URL of a registry in Docker; raises ServerMissing when Docker cannot run it."""
    with running(Image("registry", IMAGE, 8080, SETTINGS), f"http://{{host}}:{{port}}{PATH}", answers) as address:
        yield address


def answers(address: str) -> bool:
    """Whether the registry at `address` lists its subjects."""
    url = urlsplit(address)
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=10)
    try:
        connection.request("GET", f"{url.path.rstrip('/')}/subjects")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
