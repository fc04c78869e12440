"""Owns the embedded broker, a process of its own: `python -m demo.broker FILE` writes its address to the file once it runs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from demo.books import SAGA
from saga.contracts.topics import saga_topics
from saga.transport.embedded import EmbeddedBroker


def main(file: Path) -> None:
    # Blocked first, so that a signal that comes early is kept until it is waited for.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with EmbeddedBroker(saga_topics(SAGA)) as broker:
        fresh = file.with_suffix(".new")
        fresh.write_text(broker.servers)
        fresh.replace(file)
        signal.sigwait(signals)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
