"""What the demo makes of its options and of the environment, as far as nothing is started for it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from demo.__main__ import app
from demo.fleet import FleetError
from demo.real import VARIABLES, given

ADDRESS = "kafka:9092"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


def test_a_server_without_real_is_refused_rather_than_passed_over() -> None:
    result = CliRunner().invoke(app, ["--kafka", ADDRESS, "--registry", "http://registry"])

    assert result.exit_code == 2
    assert "found --kafka and --registry without --real; add --real" in result.stderr


def test_without_addresses_every_server_is_one_of_the_demos_own() -> None:
    assert given(kafka=None, postgres=None, registry=None) == {}


def test_an_option_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_BROKER", "other:9092")
    monkeypatch.setenv("SAGA_REGISTRY", "http://registry")

    assert given(kafka=ADDRESS, postgres=None, registry=None) == {"kafka": ADDRESS, "registry": "http://registry"}


def test_a_database_that_is_no_postgresql_is_refused_before_anything_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_DATABASE", "sqlite:///orders.db")

    with pytest.raises(FleetError, match="has the scheme 'sqlite'; expected postgresql://"):
        given(kafka=None, postgres=None, registry=None)
