"""`saga broker`: its settings are all that other processes need, and it goes when it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from saga.settings import Settings
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from tests.commands import Commands, schemas, written

ROOT = Path(__file__).parents[2]
PLACE = {"name": "place", "by": "orders", "emits": ["OrderPlaced"]}


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_its_lines_are_settings_under_which_the_topics_are_there(tmp_path: Path, end: signal.Signals) -> None:
    contracts = [*schemas(PLACE)]
    contracts[-1]["saga"]["name"] = "returns"
    folders = [ROOT / "schemas" / "checkout", written(tmp_path / "returns", contracts)]
    command = [sys.executable, "-c", "from saga.cli import main; main()", "broker", *map(str, folders)]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        given = dict(process.stdout.readline().strip().partition("=")[::2] for _ in range(3))
        settings = Settings(**{name.removeprefix("SAGA_").lower(): value for name, value in given.items()})  # type: ignore[arg-type]
        assert settings.broker is not None
        broker = KafkaBroker(KafkaSettings(settings.broker, embedded=settings.embedded, lanes=settings.lanes))
        found = broker.partitions(["checkout.events", "checkout.compensations", "returns.events", "returns.compensations"])
        os.kill(process.pid, end)
        status = process.wait(60)

    assert set(found.values()) == {4}
    assert (settings.embedded, settings.lanes) == (True, "all")
    assert status == 0


def test_a_folder_without_a_saga_is_wrong_use(tmp_path: Path) -> None:
    said = Commands(tmp_path)("broker", "nowhere")

    assert said.code == 2
    assert "no saga at 'nowhere': found no such folder" in said.err
