"""`saga check --service`: a service against contracts that it did not load itself, all that is wrong at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.contracts.registry import Registry
from saga.contracts.saga import Saga
from saga.errors import DefinitionError
from saga.evolution.plan import subjects
from saga.participant.fit import Misfit, misfits
from saga.participant.participant import Participant
from saga.settings import Settings


@dataclass(frozen=True, slots=True)
class Verdict:
    """One service and what does not fit; `against` says where the contracts came from."""

    service: str
    against: str
    misfits: list[Misfit]


def check_services(services: list[str], folder: Path | None, registry: str | None, *, as_json: bool) -> None:
    """Hold services to the folder, else to the registry; exits 1 if one does not fit."""
    settings = Settings.load(registry=registry)
    verdicts = [_verdict(service, folder, settings) for service in services]
    if as_json:
        output.json({"services": verdicts})
    else:
        for verdict in verdicts:
            _tell(verdict)
    if any(verdict.misfits for verdict in verdicts):
        raise typer.Exit(1)


def _verdict(service: str, folder: Path | None, settings: Settings) -> Verdict:
    if folder is None and settings.registry is None:
        raise DefinitionError(
            f"found no contracts to hold {service} to; name their folder: saga check DIR --service {service}, or the registry: "
            f"SAGA_REGISTRY or --registry"
        )
    against = str(folder) if folder else str(settings.registry)
    registry = None if folder else assembly.registry_needed(settings)
    participant = arguments.participant(service)
    if folder is not None:
        return Verdict(service, against, misfits(participant, Saga.load(folder)))
    assert registry is not None
    return Verdict(service, against, [*_against_registry(participant, registry)])


def _against_registry(participant: Participant, registry: Registry) -> Iterator[Misfit]:
    """Each version that the service knows, against the registered one; and whether what it writes is registered."""
    for own in participant.versions:
        try:
            registered = Saga.from_registry(registry, own.name, version=own.version)
        except DefinitionError as error:
            yield Misfit(f"saga {own.name} v{own.version}", str(error))
            continue
        yield from misfits(participant, registered)
        for subject, schema in subjects(own):
            if not registry.registered(subject, schema):
                text = (
                    "the service's contract is not among those registered; run: saga schemas register DIR, "
                    "or take what is there: saga schemas pull"
                )
                yield Misfit(subject, text)


def _tell(verdict: Verdict) -> None:
    if not verdict.misfits:
        output.line(f"{verdict.service} fits the contracts in {verdict.against}", style="green")
        return
    output.line(f"{verdict.service} does not fit the contracts in {verdict.against}", style="bold red")
    for misfit in verdict.misfits:
        output.line(f"  {misfit.place}")
        output.line(f"    {misfit.text}")
