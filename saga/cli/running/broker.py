"""`saga broker`: a Kafka for development and for the first hour, with the topics of some sagas, until Ctrl-C."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from saga.cli import output
from saga.contracts.saga import Saga
from saga.contracts.topics import saga_topics

Folders = Annotated[list[Path], typer.Argument(metavar="DIR", help="The contract folders of one or more sagas.")]


def broker(folders: Folders) -> None:
    """Be the broker of sagas on this machine until SIGTERM or Ctrl-C; nothing survives it. Prints the settings to use it.

    The settings are lines for a file `.env`: saga broker DIR > .env
    """
    from saga.transport.embedded import EmbeddedBroker

    topics = [topic for folder in folders for topic in saga_topics(Saga.load(folder).name)]
    # Blocked first, so that a signal that comes early is kept until it is waited for.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with EmbeddedBroker(topics) as running:
        # One process per participant takes all lanes: in the group of one that was killed, half of them would wait for 30 s.
        output.lines(f"SAGA_BROKER={running.servers}\nSAGA_EMBEDDED=true\nSAGA_LANES=all")
        output.progress(f"the broker of {', '.join(topics)} is up; Ctrl-C ends it")
        signal.sigwait(signals)
