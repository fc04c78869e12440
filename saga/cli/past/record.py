"""`saga record`: whole histories out of the topics into a file, for tests and for reading without Kafka."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from saga.cli import arguments, output
from saga.cli.past import replaying
from saga.count import many
from saga.replay import recording
from saga.replay.contracts import Contracts
from saga.replay.gathering import histories
from saga.replay.history import History
from saga.replay.holes import holes
from saga.replay.mask import Masking
from saga.replay.source import Source
from saga.settings import Settings


def record(
    name: replaying.Name,
    to: Annotated[Path, typer.Option("--to", "-o", metavar="FILE", help="The file; an earlier one is replaced.")],
    workflow: Annotated[list[str] | None, typer.Option("--workflow", metavar="ID", help="Only this one; repeatable.")] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", min=1, help="N of them, the same ones each time.")
    ] = None,
    salt: Annotated[str, typer.Option("--salt", metavar="TEXT", help="Makes masks that nobody else can guess.")] = "",
    schemas: replaying.Schemas = None,
    registry: replaying.RegistryUrl = None,
    version: replaying.Versions = None,
    partial: replaying.Partial = False,
    broker: arguments.BrokerServers = None,
    as_json: output.AsJson = False,
) -> None:
    """Write whole histories, raw envelopes and payloads, with the fields masked that the contracts call sensitive."""
    settings = Settings.load(registry=registry, broker=broker)
    contracts = replaying.contracts(settings, name, schemas, version)
    writing = _Recording(contracts, replaying.source(settings, name, None), salt, partial=partial)
    recording.write(to, name, writing.recorded(workflow or [], sample))
    if as_json:
        output.json({"written": str(to), "workflows": sum(writing.counts.values()), "not_whole": writing.findings.count})
    else:
        output.line(f"{to}: {many(sum(writing.counts.values()), 'history', 'histories')} of saga {name}")


class _Recording:
    """The histories to be written, counted by version as they come; ends in a refusal if something is missing."""

    def __init__(self, contracts: Contracts, source: Source, salt: str, *, partial: bool) -> None:
        self.contracts, self.source, self.partial = contracts, source, partial
        self.masks = {number: Masking(saga, contracts.codec(number), salt=salt) for number, saga in contracts.sagas.items()}
        self.findings, self.counts, self.seen = replaying.Findings(source.aged, contracts), Counter[int](), set[str]()

    def recorded(
        self, wanted: Sequence[str], sample: int | None
    ) -> Iterator[tuple[History, Mapping[str, bytes], Sequence[str]]]:
        whole = self._whole(wanted)
        for history in whole if sample is None else recording.sample(whole, sample):
            missing = [hole.text for hole in holes(history, self.contracts)]
            self.findings.add(history, missing)
            if (saga := self.contracts.of(history)) is not None:
                self.counts[saga.version] += 1
                yield history, self.masks[saga.version].payloads(history), missing
        self.findings.tell(partial=self.partial)
        replaying.refuse_unknown(self.source.saga, wanted, self.seen)

    def _whole(self, wanted: Sequence[str]) -> Iterator[History]:
        for history in histories(self.source, self.contracts, wanted=wanted, pace=replaying.Pace(self.source.size)):
            if not history.late:
                if wanted:
                    self.seen.add(history.workflow)
                yield history
