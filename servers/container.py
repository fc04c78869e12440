"""One server in Docker, by testcontainers: its reaper removes the container even after we were killed.

They are imported only where Docker answers, since they take longer to load than all else that servers need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from servers.errors import ServerFailed, ServerMissing
from servers.process import await_answer

_TAIL_CHARACTERS = 3000


@dataclass(frozen=True)
class Image:
    """What to run: `port` is the one inside, `published` the one outside (None: whichever is free)."""

    name: str
    tag: str
    port: int
    environment: Mapping[str, str]
    published: int | None = None
    command: Sequence[str] = ()


@contextmanager
def running(image: Image, address: str, answers: Callable[[str], bool], within: float = 120.0) -> Iterator[str]:
    """Run `image` and yield its `address`, with {host} and {port} filled in, once it answers there.

    Raises ServerMissing when Docker cannot get or start the image, and ServerFailed, with the end of its output, when it does
    not answer `within` seconds.
    """
    from testcontainers.core.container import DockerContainer

    with ExitStack() as stack:
        with _refusals(image.tag):
            box = DockerContainer(image.tag, env=dict(image.environment))
            stack.callback(box.stop)
            if image.command:
                box.with_command(list(image.command))
            box.with_bind_ports(image.port, image.published).start()
            found = address.format(host=box.get_container_host_ip(), port=box.get_exposed_port(image.port))
        try:
            await_answer(image.name, lambda: answers(found), within)
        except ServerFailed as failure:
            said = b"".join(box.get_logs()).decode(errors="replace")[-_TAIL_CHARACTERS:]
            raise ServerFailed(f"{failure}; {image.tag} said last:\n{said}") from failure
        yield found


def docker_host() -> str:
    """The name under which ports published by Docker are reached from here; raises ServerMissing."""
    from testcontainers.core.docker_client import DockerClient

    with _refusals("anything"):
        return DockerClient().host()


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    from docker.errors import DockerException  # type: ignore[import-untyped]
    from requests.exceptions import RequestException

    try:
        yield
    except (DockerException, RequestException, TimeoutError) as refusal:
        raise ServerMissing(f"Docker does not run {what}: {refusal}") from refusal
