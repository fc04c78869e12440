"""What a process is told from outside: the environment (`SAGA_...`), then `.env` in the working directory.

A key that is not known is refused, since a misspelt one would otherwise be the silent choice of a default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from saga.errors import DefinitionError
from saga.failpoints import arms
from saga.span import Span

PREFIX = "SAGA_"
TESTING = "SAGA_TEST_"  # addresses of servers for tests: none of a participant's business
_SECRET = frozenset({"database", "kafka", "registry_token", "registry_user", "webhook"})
_STEP = "Correct it in the environment or in .env."


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _bare(value: Any) -> Any:
    """An address without what a file or a form leaves around it: a database's would else be another one's, by a line's end."""
    return (value.strip() or None) if isinstance(value, str) else value


def _client_value(value: Any) -> Any:
    """As librdkafka spells it: all of its values are text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _names(value: Any) -> Any:
    """`a,b` as they are written in the environment."""
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


Lowered = BeforeValidator(_lower)
Bare = BeforeValidator(_bare)


class Settings(BaseSettings):
    """Read them with `load`, which speaks in DefinitionErrors.

    `broker`: bootstrap servers, `host:port`, separated by commas. `database`: `sqlite:///relative.db`,
    `sqlite:////absolute.db` or `postgresql://user@host:5432/database`. `lanes="all"` takes all partitions without a group,
    for a participant that runs as exactly one process. `embedded`: the broker is an EmbeddedBroker of another process.
    `threads`, `batch`, `overdue`, `keep_letters` and `keep_workflows` are the worker's. `max_backlog`, `max_parked` and
    `max_event_bytes` take the place of the participant's own.
    `kafka`: further librdkafka settings, as a JSON object or one by one (`SAGA_KAFKA__linger.ms`). `registry`: address of the
    schema registry, `registry_...`: how we prove who we are there and whom we believe; `cache`: folder in which what it said
    is kept.
    `schemas`: the folder of a saga's contracts, for commands that can use it. `gates`: names of feature gates that are open for
    what starts here, separated by commas. `health`: `host:port` on which `saga run` answers `/livez` and `/readyz`.
    `webhook`: where parked workflows that wait for an operator are posted.
    `failpoints` arms `saga.failpoints`, in tests only.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    broker: Annotated[str | None, Bare] = None
    database: Annotated[SecretStr | None, Bare] = None
    lanes: Annotated[Literal["group", "all"], Lowered] = "group"
    group_protocol: Annotated[Literal["consumer", "classic"], Lowered] = "consumer"
    embedded: bool = False
    threads: int = Field(default=1, ge=1)
    batch: int = Field(default=500, ge=1)
    max_backlog: int | None = Field(default=None, ge=1)
    max_parked: int | None = Field(default=None, ge=1)
    max_event_bytes: int | None = Field(default=None, ge=1)
    overdue: Span = timedelta(seconds=30)
    keep_letters: Span = timedelta(days=30)
    keep_workflows: Span | None = None
    kafka: Mapping[str, Annotated[SecretStr, BeforeValidator(_client_value)]] = {}
    registry: Annotated[str | None, Bare] = None
    registry_user: SecretStr | None = None
    registry_token: SecretStr | None = None
    registry_ca: Path | None = None
    registry_certificate: Path | None = None
    registry_key: Path | None = None
    cache: Path | None = None
    schemas: Path | None = None
    gates: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = ()
    health: Annotated[str | None, Bare] = None
    webhook: Annotated[SecretStr | None, Bare] = None
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Lowered] = "info"
    failpoints: str | None = None

    @classmethod
    def load(cls, **given: Any) -> Self:
        """The settings, with those `given` and not None put before the environment.

        Raises DefinitionError that says what was found, what was expected and what to do, and never shows a secret.
        """
        _refuse_unknown((f"{PREFIX}{name}" for name in given), "the arguments", cls.model_fields)
        try:
            settings = cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise DefinitionError(f"{_story(error)}. {_STEP}") from error
        except SettingsError as error:
            expected = '{"linger.ms": 5}'
            raise DefinitionError(f"{PREFIX}KAFKA: found no JSON; expected an object like {expected}. {_STEP}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise DefinitionError(f".env cannot be read: {error}. Make it a readable UTF-8 text, or remove it.") from error
        settings._refuse_contradictions()
        arms(settings.failpoints or "")
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but the environment and `.env`, both searched for keys that mean nothing."""
        assert isinstance(env_settings, EnvSettingsSource)
        assert isinstance(dotenv_settings, DotEnvSettingsSource)
        _refuse_unknown(env_settings.env_vars, "the environment", cls.model_fields)
        _refuse_unknown(dotenv_settings.env_vars, ".env", cls.model_fields)
        return init_settings, env_settings, dotenv_settings

    def _refuse_contradictions(self) -> None:
        if self.lanes == "all" and self.threads > 1:
            raise DefinitionError(
                f"{PREFIX}LANES=all with {PREFIX}THREADS={self.threads}: every thread would take all lanes from the others. "
                f"Set {PREFIX}THREADS=1, or {PREFIX}LANES=group."
            )
        if self.registry_user and self.registry_token:
            raise DefinitionError(
                f"found {PREFIX}REGISTRY_USER and {PREFIX}REGISTRY_TOKEN; expected one of them. Unset the other."
            )
        if self.registry_user and ":" not in self.registry_user.get_secret_value():
            raise DefinitionError(f"{PREFIX}REGISTRY_USER: found a value that is not shown; expected user:password. {_STEP}")
        if self.registry_key and not self.registry_certificate:
            raise DefinitionError(
                f"found {PREFIX}REGISTRY_KEY without {PREFIX}REGISTRY_CERTIFICATE: a key proves nothing alone. "
                f"Set both, or name a certificate file that holds its key."
            )


def _refuse_unknown(keys: Iterable[str], place: str, fields: Iterable[str]) -> None:
    known = [*fields]
    for key in sorted(key.upper() for key in keys):
        if not key.startswith(PREFIX) or key.startswith(TESTING):
            continue
        name, nested, _ = key.removeprefix(PREFIX).lower().partition("__")
        if name in known and not (nested and name != "kafka"):
            continue
        near = get_close_matches(name, known, n=1)
        meant = f"did you mean {PREFIX}{near[0].upper()}?" if near else f"known are {', '.join(_spelt(known))}."
        raise DefinitionError(f"found {key} in {place}, which is no setting; {meant} Remove or correct it.")


def _story(error: ValidationError) -> str:
    return "; ".join(_sentence(detail["loc"], detail.get("input"), detail["msg"]) for detail in error.errors())


def _sentence(place: tuple[int | str, ...], found: Any, message: str) -> str:
    name = "__".join([str(place[0]).upper(), *map(str, place[1:2])])
    shown = "a value that is not shown" if place[0] in _SECRET else repr(found)
    return f"{PREFIX}{name}: found {shown}; it {message.removeprefix('Input ')}"


def _spelt(names: Iterable[str]) -> list[str]:
    return [f"{PREFIX}{name.upper()}" for name in names]
