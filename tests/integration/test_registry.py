"""The schema registry, a real one: sagas registered, found again, checked; and what a service does while it is away."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from saga import DefinitionError, Saga
from saga.cli.app import app
from saga.contracts.avro import AvroCodec
from saga.contracts.registry import Registry
from saga.errors import DecodeError, RegistryUnavailable, SchemaNotFound

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2] / "schemas" / "checkout"
NOWHERE = "http://127.0.0.1:9/apis/ccompat/v7"
SHORT = {"order_id": "o1", "sku": "pen", "wanted": 2, "available": 1}


def command(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.output


@pytest.fixture
def registered(registry: str) -> str:
    """Address of a registry that has the checkout saga."""
    status, text = command("schemas", "register", str(CHECKOUT), "--registry", registry)
    assert status == 0, text
    return registry


def test_a_registered_saga_is_the_saga_of_the_folder(registered: str) -> None:
    folder = Saga.load(CHECKOUT)

    found = Saga.from_registry(Registry(registered), "checkout", version=1)

    assert found.steps == folder.steps
    assert found.types == folder.types
    assert {name: found.contract(name) for name in found.types} == {name: folder.contract(name) for name in folder.types}


def test_ids_are_those_of_the_registry_for_folder_and_registry_alike(registered: str) -> None:
    by_folder = AvroCodec(Saga.load(CHECKOUT), Registry(registered))
    by_registry = AvroCodec(Saga.from_registry(Registry(registered), "checkout", version=1))

    payload = by_folder.encode("checkout.OutOfStock", SHORT)

    assert by_registry.decode("checkout.OutOfStock", payload) == SHORT
    assert payload[:5] != AvroCodec(Saga.load(CHECKOUT)).encode("checkout.OutOfStock", SHORT)[:5]


def test_registering_again_changes_nothing(registered: str) -> None:
    before = command("schemas", "plan", str(CHECKOUT), "--registry", registered, "--json")

    again = command("schemas", "register", str(CHECKOUT), "--registry", registered, "--json")

    assert {entry["state"] for entry in json.loads(before[1])["subjects"]} == {"registered"}
    assert json.loads(again[1].partition("\n")[2])["subjects"] == json.loads(before[1])["subjects"]


def test_a_schema_that_breaks_readers_is_refused_and_nothing_is_registered(registered: str, tmp_path: Path) -> None:
    for file in CHECKOUT.glob("*.avsc"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    broken = json.loads((tmp_path / "OutOfStock.avsc").read_text())
    broken["fields"].append({"name": "shelf", "type": "string"})
    (tmp_path / "OutOfStock.avsc").write_text(json.dumps(broken))

    status, text = command("schemas", "register", str(tmp_path), "--registry", registered)

    assert status == 1
    assert re.search(r"checkout\.compensations-checkout\.OutOfStock +refuse", text)
    assert "give new fields a default" in text
    assert Registry(registered).latest("checkout.compensations-checkout.OutOfStock") == Saga.load(CHECKOUT).contract(
        "checkout.OutOfStock"
    )


def test_a_reader_understands_what_a_newer_writer_wrote(registered: str) -> None:
    folder, registry = Saga.load(CHECKOUT), Registry(registered)
    newer = copy.deepcopy(dict(folder.contract("checkout.PaymentDeclined")))
    newer["fields"].append({"name": "code", "type": ["null", "string"], "default": None})
    types = {name: type_ for name, type_ in folder.types.items() if not name.startswith("saga.")}
    writer = Saga.of(*{**types, "checkout.PaymentDeclined": newer}.values(), folder.own)
    registry.register(writer.subject("checkout.PaymentDeclined"), newer)

    payload = AvroCodec(writer, registry).encode(
        "checkout.PaymentDeclined", {"order_id": "o1", "reason": "limit", "code": "L1"}
    )

    read = AvroCodec(folder, Registry(registered)).decode("checkout.PaymentDeclined", payload)
    assert read == {"order_id": "o1", "reason": "limit"}


def test_a_service_that_ran_before_starts_while_the_registry_is_away(registered: str, tmp_path: Path) -> None:
    AvroCodec(Saga.from_registry(Registry(registered, cache=tmp_path), "checkout", version=1)).warm()
    away = Registry(registered, cache=tmp_path, client={"url": NOWHERE})

    codec = AvroCodec(Saga.from_registry(away, "checkout", version=1))
    codec.warm()

    assert codec.decode("checkout.OutOfStock", codec.encode("checkout.OutOfStock", SHORT)) == SHORT


def test_without_registry_and_cache_it_is_waited_for_and_never_taken_for_an_unknown_schema() -> None:
    with pytest.raises(RegistryUnavailable, match=r"the registry http://127\.0\.0\.1:9/apis/ccompat/v7 does not answer"):
        AvroCodec(Saga.load(CHECKOUT), Registry(NOWHERE)).warm()


def test_what_is_not_registered_is_named_with_the_next_step(registry: str) -> None:
    with pytest.raises(SchemaNotFound, match="run: saga schemas register"):
        Registry(registry).id_of("nobody.events-nobody.Nothing", {"type": "record", "name": "Nothing", "fields": []})
    with pytest.raises(DefinitionError, match="has no saga 'nobody' of version 1; register it: saga schemas register DIR"):
        Saga.from_registry(Registry(registry), "nobody", version=1)


def test_bytes_of_an_unknown_schema_id_are_unreadable(registered: str) -> None:
    codec = AvroCodec(Saga.load(CHECKOUT), Registry(registered))

    with pytest.raises(DecodeError, match="was written with schema 999999, which the registry does not know"):
        codec.decode("checkout.OutOfStock", b"\0" + (999_999).to_bytes(4, "big") + b"\0")
