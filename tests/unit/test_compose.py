"""docker-compose.yml brings up the same set, with the same settings, as the folder servers/."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from servers import kafka, postgres, registry

FILE = Path(__file__).parents[2] / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]


def _compose_is_here() -> bool:
    return (
        bool(shutil.which("docker")) and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    )


@pytest.mark.skipif(not _compose_is_here(), reason="the compose plugin of Docker is not installed")
def test_compose_itself_accepts_the_file() -> None:
    told = subprocess.run(["docker", "compose", "-f", FILE, "config", "-q"], capture_output=True, text=True)

    assert told.returncode == 0, told.stderr


def test_the_images_are_those_that_the_tests_run() -> None:
    assert {name: service["image"] for name, service in SERVICES.items()} == {
        "kafka": kafka.IMAGE,
        "postgres": postgres.IMAGE,
        "registry": registry.IMAGE,
    }


def test_kafka_has_the_settings_of_the_tests() -> None:
    environment = SERVICES["kafka"]["environment"]

    assert environment == {**kafka.environment("localhost:9092"), "KAFKA_LOG_DIRS": "/var/lib/kafka/data"}


def test_postgres_and_the_registry_have_the_settings_of_the_tests() -> None:
    assert SERVICES["postgres"]["command"] == ["postgres", *postgres.options(postgres.SETTINGS)]
    assert SERVICES["postgres"]["environment"] == postgres.TRUST
    assert SERVICES["registry"]["environment"] == registry.SETTINGS


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_pinned_watched_and_reachable_from_this_machine_only(name: str) -> None:
    service = SERVICES[name]

    assert re.fullmatch(r"[\w/.-]+:\d+\.\d+(\.\d+)?", service["image"])
    assert set(service["healthcheck"]) == {"test", "interval", "timeout", "retries", "start_period"}
    assert [port.split(":")[0] for port in service["ports"]] == ["127.0.0.1"]
