"""Where a server comes from: an address given in the environment, else Docker when it answers, else programs of this machine.

Whoever asks learns an address and not the rung it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from servers import kafka, postgres, registry
from servers.errors import ServerFailed, ServerMissing
from servers.process import LocalServer
from servers.programs import Report, docker_answers


@dataclass(frozen=True)
class Ladder:
    """The rungs of one server, best first."""

    name: str
    variable: str
    answers: Callable[[str], bool]
    containerised: Callable[[], AbstractContextManager[str]]
    fetch: Callable[[Report], None]
    local: Callable[[Report], LocalServer]

    @contextmanager
    def serving(self, environment: Mapping[str, str], report: Report) -> Iterator[str]:
        """The address of a server that answers; what was started for it is stopped at the end.

        Raises ServerMissing when no rung holds, and ServerFailed when one should and does not.
        """
        with ExitStack() as stack:
            yield self._given(environment) or self._container(stack, report) or self._process(stack, report)

    def prepare(self, environment: Mapping[str, str], report: Report) -> None:
        """Get what `serving` would have to fetch, so that no test's time goes into it; raises what `serving` raises."""
        if not environment.get(self.variable) and not docker_answers():
            self.fetch(report)

    def _given(self, environment: Mapping[str, str]) -> str | None:
        address = environment.get(self.variable)
        if address and not self.answers(address):
            raise ServerFailed(f"{self.variable} is {address}, but no {self.name} answers there; start it, or unset that")
        return address

    def _container(self, stack: ExitStack, report: Report) -> str | None:
        if not docker_answers():
            return None
        try:
            return stack.enter_context(self.containerised())
        except ServerMissing as refusal:
            report(str(refusal))
            return None

    def _process(self, stack: ExitStack, report: Report) -> str:
        server = self.local(report)
        server.start()
        stack.callback(server.stop)
        return server.address


KAFKA = Ladder("kafka", "SAGA_TEST_KAFKA", kafka.answers, kafka.containerised, kafka.fetch, kafka.local)
POSTGRES = Ladder("postgres", "SAGA_TEST_POSTGRES", postgres.answers, postgres.containerised, postgres.fetch, postgres.local)
REGISTRY = Ladder("registry", "SAGA_TEST_REGISTRY", registry.answers, registry.containerised, registry.fetch, registry.local)
LADDERS: Mapping[str, Ladder] = {ladder.name: ladder for ladder in (KAFKA, POSTGRES, REGISTRY)}
