"""The table of settings against `saga.settings`."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from drills.blocks import blocks
from saga.settings import PREFIX, Settings
from saga.span import span_of
from saga.transport.kafka_settings import KafkaSettings

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
ROWS = dict(re.findall(r"^\| `SAGA_(\w+)` \| .+ \| (`[^`]+`|none) \| .+ \|$", DOCUMENT.read_text(), re.MULTILINE))


def test_every_setting_is_documented_and_no_other() -> None:
    assert {name.lower() for name in ROWS} == set(Settings.model_fields)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_default_is_the_one_that_is_told(name: str) -> None:
    default, told = Settings.model_fields[name].default, ROWS[name.upper()].strip("`")
    if isinstance(default, timedelta):
        assert span_of(told) == default
    else:
        assert told == ("none" if default is None else default if isinstance(default, str) else orjson.dumps(default).decode())


def test_the_example_is_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    [example] = blocks(DOCUMENT)
    monkeypatch.chdir(tmp_path)
    for line in example.text.splitlines():
        name, _, value = line.partition("=")
        assert name.startswith(PREFIX)
        monkeypatch.setenv(name, value)

    settings = Settings.load()

    client = {key: value.get_secret_value() for key, value in settings.kafka.items()}
    assert KafkaSettings(settings.broker or "", client=client).producer()["sasl.username"] == "stock"
