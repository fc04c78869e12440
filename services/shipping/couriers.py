"""Which courier carries to which country: shipping's configuration, one TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from saga import DefinitionError


class ShippingSettings(BaseSettings):
    """Read from the environment: `SHIPPING_COURIERS` is the path of the courier list."""

    model_config = SettingsConfigDict(env_prefix="SHIPPING_")
    couriers: Path = Path(__file__).with_name("couriers.toml")


@cache
def couriers() -> Mapping[str, str]:
    """Country to courier, read at first use. Raises DefinitionError that names the file and what is wrong with it."""
    path = ShippingSettings().couriers
    try:
        table = _LISTS.validate_python(tomllib.loads(path.read_text())["couriers"])
    except (OSError, KeyError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise DefinitionError(
            f"{path}: found {type(error).__name__}: {error}; expected a table [couriers] of lists of countries. "
            f"Correct the file, or set SHIPPING_COURIERS to another."
        ) from error
    by_country: dict[str, str] = {}
    for courier, countries in table.items():
        for country in countries:
            if by_country.setdefault(country, courier) != courier:
                raise DefinitionError(f"{path}: {country} is served by {by_country[country]} and {courier}; keep one")
    return by_country


_LISTS = TypeAdapter(dict[str, list[str]], config=ConfigDict(strict=True))
