from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from saga.contracts.registry import Registry
from saga.errors import DefinitionError
from saga.observe.health import Opening, served
from saga.observe.webhook import Webhook
from saga.settings import Settings
from services.stock.app import stock

SECRET = "s3cr3t-pa55"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory and no `SAGA_` key around."""
    monkeypatch.chdir(tmp_path)
    for key in [key for key in os.environ if key.upper().startswith("SAGA_")]:
        monkeypatch.delenv(key)
    return tmp_path


def test_defaults_name_neither_a_broker_nor_a_database() -> None:
    settings = Settings.load()

    assert (settings.broker, settings.database, settings.schemas) == (None, None, None)
    assert (settings.lanes, settings.group_protocol, settings.embedded) == ("group", "consumer", False)
    assert (settings.threads, settings.batch, settings.log_level) == (1, 500, "info")


def test_the_environment_comes_before_the_file_and_an_argument_before_both(
    monkeypatch: pytest.MonkeyPatch, elsewhere: Path
) -> None:
    (elsewhere / ".env").write_text("SAGA_BROKER=file:9092\nSAGA_THREADS=2\nSAGA_BATCH=20\n")
    monkeypatch.setenv("SAGA_THREADS", "3")
    monkeypatch.setenv("SAGA_BATCH", "30")

    settings = Settings.load(batch=40, broker=None)

    assert (settings.broker, settings.threads, settings.batch) == ("file:9092", 3, 40)


@pytest.mark.parametrize("around", ["{}\n", " {} ", "\t{}\r\n"])
def test_what_a_file_of_secrets_leaves_around_an_address_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch, elsewhere: Path, around: str
) -> None:
    """`sqlite:///stock.db` and a line's end was another database, and an empty one."""
    given = {
        "SAGA_DATABASE": "sqlite:///stock.db", "SAGA_BROKER": "kafka:9092", "SAGA_REGISTRY": "http://registry:8081",
        "SAGA_HEALTH": "0.0.0.0:8080", "SAGA_WEBHOOK": "https://ear/hook",
    }  # fmt: skip
    for name, address in given.items():
        monkeypatch.setenv(name, around.format(address))

    found = Settings.load()

    assert found.database is not None
    assert found.webhook is not None
    read = [found.database.get_secret_value(), found.broker, found.registry, found.health, found.webhook.get_secret_value()]
    assert read == [*given.values()]


def test_an_address_of_nothing_but_blanks_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE", "BROKER", "REGISTRY", "HEALTH", "WEBHOOK"):
        monkeypatch.setenv(f"SAGA_{name}", " \n")

    found = Settings.load()

    assert {found.database, found.broker, found.registry, found.health, found.webhook} == {None}


def test_other_programs_keys_in_the_file_are_none_of_our_business(elsewhere: Path) -> None:
    (elsewhere / ".env").write_text("POSTGRES_PASSWORD=x\nSAGA_LOG_LEVEL=DEBUG\n")

    assert Settings.load().log_level == "debug"


def test_client_settings_come_as_json_or_one_by_one_and_end_as_text(monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> None:
    (elsewhere / ".env").write_text(f"SAGA_KAFKA__sasl.password={SECRET}\n")
    monkeypatch.setenv("SAGA_KAFKA", '{"linger.ms": 5, "socket.keepalive.enable": true}')

    kafka = {key: value.get_secret_value() for key, value in Settings.load().kafka.items()}

    assert kafka == {"linger.ms": "5", "socket.keepalive.enable": "true", "sasl.password": SECRET}


def test_an_empty_value_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_DATABASE", "")

    assert Settings.load().database is None


def test_secrets_do_not_show_in_a_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_DATABASE", f"postgresql://u:{SECRET}@db/orders")
    monkeypatch.setenv("SAGA_KAFKA", f'{{"sasl.password": "{SECRET}"}}')

    settings = Settings.load()

    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("SAGA_THREADS", "0", "SAGA_THREADS: found '0'; it should be greater than or equal to 1"),
        ("SAGA_BATCH", "many", "SAGA_BATCH: found 'many'; it should be a valid integer"),
        ("SAGA_LANES", "some", "SAGA_LANES: found 'some'; it should be 'group' or 'all'"),
        ("SAGA_EMBEDDED", "perhaps", "SAGA_EMBEDDED: found 'perhaps'; it should be a valid boolean"),
        ("SAGA_KEEP_LETTERS", "30", "SAGA_KEEP_LETTERS: found '30'; it should be a span such as 90s, 10m, 2h, 7d or PT2H"),
        (
            "SAGA_OVERDUE",
            "0s",
            "SAGA_OVERDUE: found '0s'; it should be a span such as 90s, 10m, 2h, 7d or PT2H, of more than 0s",
        ),
        ("SAGA_KEEP_WORKFLOWS", "P0D", "SAGA_KEEP_WORKFLOWS: found 'P0D'; it should be a span such as 90s, 10m"),
        ("SAGA_TREADS", "2", "found SAGA_TREADS in the environment, which is no setting; did you mean SAGA_THREADS?"),
        ("SAGA_XYZZY", "2", "which is no setting; known are SAGA_BROKER, SAGA_DATABASE"),
        ("SAGA_XYZZY", "2", "SAGA_FAILPOINTS. Remove or correct it."),
        ("SAGA_THREADS__MAX", "2", "found SAGA_THREADS__MAX in the environment, which is no setting"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str, told: str
) -> None:
    monkeypatch.setenv(key, value)

    with pytest.raises(DefinitionError) as refused:
        Settings.load()

    assert told in str(refused.value)
    assert "orrect it" in str(refused.value)


def test_a_misspelt_key_in_the_file_is_refused(elsewhere: Path) -> None:
    (elsewhere / ".env").write_text("SAGA_DATABSE=sqlite:///x.db\n")

    with pytest.raises(DefinitionError, match=r"SAGA_DATABSE in \.env.*did you mean SAGA_DATABASE"):
        Settings.load()


@pytest.mark.parametrize("kafka", [SECRET, f'["{SECRET}"]', f'{{"sasl.password": ["{SECRET}"]}}'])
def test_a_refused_secret_is_not_echoed(monkeypatch: pytest.MonkeyPatch, kafka: str) -> None:
    monkeypatch.setenv("SAGA_KAFKA", kafka)

    with pytest.raises(DefinitionError, match="SAGA_KAFKA") as refused:
        Settings.load()

    error: BaseException | None = refused.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ or error.__context__


def test_all_lanes_in_two_threads_contradict_each_other() -> None:
    with pytest.raises(DefinitionError, match="every thread would take all lanes"):
        Settings.load(lanes="all", threads=2)


def test_an_argument_that_is_no_setting_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"SAGA_TREADS in the arguments.*did you mean SAGA_THREADS"):
        Settings.load(treads=2)


def test_a_file_that_is_no_text_is_refused(elsewhere: Path) -> None:
    (elsewhere / ".env").write_bytes(b"SAGA_BROKER=\xff\xfe\n")

    with pytest.raises(DefinitionError, match=r"\.env cannot be read"):
        Settings.load()


def test_settings_do_not_change() -> None:
    settings = Settings.load()

    with pytest.raises(ValueError, match="frozen"):
        settings.threads = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    "use",
    [
        lambda: Registry("http://[::1"),
        lambda: Registry("registry:8080"),
        lambda: Webhook("http://[::1"),
        lambda: served(Opening(stock), "localhost:²").__enter__(),
    ],
)
def test_an_address_that_is_none_is_refused_by_whoever_is_given_it(use: Callable[[], object]) -> None:
    with pytest.raises(DefinitionError, match="expected"):
        use()
