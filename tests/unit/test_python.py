"""Classes written from contracts: what they say, that they fit the contract both ways, and that nothing is lost on the wire."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from saga import DefinitionError, Saga
from saga.contracts.avro import AvroCodec
from saga.contracts.python import python
from saga.contracts.view import check_view
from tests.commands import Commands
from tests.sources import ROOT

CHECKOUT = ROOT / "schemas" / "checkout"
SIZE = {"type": "enum", "name": "Size", "namespace": "shop", "symbols": ["S", "M", "title"], "doc": "How large."}
LINE = {
    "type": "record",
    "name": "Line",
    "namespace": "shop",
    "fields": [{"name": "sku", "type": "string"}, {"name": "size", "type": "shop.Size", "default": "M"}],
}


def of(*fields: Any, types: tuple[Any, ...] = (SIZE, LINE)) -> Saga:
    """A saga whose only event `Sold` has these fields."""
    sold = {"type": "record", "name": "Sold", "namespace": "shop", "fields": list(fields)}
    field = {"name": "sell", "type": ["null", "Sold"], "default": None, "step": {"by": "shop", "emits": ["Sold"]}}
    attributes = {"name": "sale", "version": 1, "owner": "shop"}
    saga = {"type": "record", "name": "Sale", "namespace": "shop", "saga": attributes, "fields": [field]}
    return Saga.of(*types, sold, saga)


def logical(name: str, base: str, **more: Any) -> dict[str, Any]:
    return {"type": base, "logicalType": name, **more}


DEFAULTS: list[tuple[Any, Any, Any]] = [
    ("boolean", True, True),
    ("int", -1, -1),
    ("long", 2**40, 2**40),
    ("double", 1, 1.0),
    ("string", 'a "b"\\\n', 'a "b"\\\n'),
    ("bytes", "\u00ff'", b"\xff'"),
    (["null", "string"], None, None),
    (["string", "null"], "a", "a"),
    ({"type": "array", "items": "int"}, [], []),
    ({"type": "array", "items": "int"}, [1, 2], [1, 2]),
    ({"type": "map", "values": "string"}, {"a": "b"}, {"a": "b"}),
    ("shop.Size", "title", "title"),
    (logical("uuid", "string"), str(UUID(int=7)), UUID(int=7)),
    ({"type": "fixed", "name": "Token", "size": 16, "logicalType": "uuid"}, "\u0000" * 15 + "\u0007", UUID(int=7)),
    (logical("decimal", "bytes", precision=9, scale=2), "\u00ff\u0085", Decimal("-1.23")),
    (logical("date", "int"), 1, date(1970, 1, 2)),
    (logical("time-millis", "int"), 1001, time(0, 0, 1, 1000)),
    (logical("timestamp-micros", "long"), -1, datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    (logical("local-timestamp-millis", "long"), 0, datetime(1970, 1, 1)),  # noqa: DTZ001
]


@contextmanager
def module(saga: Saga) -> Iterator[ModuleType]:
    """What was written, as a module that is there while the context is open."""
    text = python(saga, command="saga schemas python")
    made = ModuleType("generated_events")
    sys.modules["generated_events"] = made
    try:
        exec(compile(text, "generated_events", "exec"), vars(made))
        yield made
    finally:
        del sys.modules["generated_events"]


def test_a_participant_gets_what_it_reads_and_writes_and_no_more() -> None:
    saga = Saga.load(CHECKOUT)

    text = python(saga, "shipping", command="saga schemas python schemas/checkout --participant shipping")

    assert text.startswith(
        '"""Events of saga checkout v1, as shipping reads and writes them. Generated: do not edit.\n\nMade by: '
    )
    classes = [line.split()[1].partition("(")[0] for line in text.splitlines() if line.startswith("class ")]
    assert classes == ["DispatchRefused", "ParcelDispatched", "PaymentAuthorised", "StockReserved"]
    assert '    """Where the parcel goes, so that shipping needs nothing else of the order."""' in text


def test_the_same_contracts_give_the_same_text() -> None:
    saga = Saga.load(CHECKOUT)
    turned = Saga.of(*reversed([type_ for name, type_ in saga.types.items() if not name.startswith("saga.")]), saga.own)

    assert python(turned, command="x") == python(saga, command="x")


def test_every_class_fits_its_contract_in_both_directions() -> None:
    saga = Saga.load(CHECKOUT)

    with module(saga) as made:
        for name in (name for name in saga.published if not name.startswith("saga.")):
            view = vars(made)[name.rpartition(".")[2]]
            check_view(view, saga, name, writes=True)
            check_view(view, saga, name, writes=False)


@pytest.mark.parametrize(("type_", "default", "expected"), DEFAULTS)
def test_a_default_is_the_value_that_avro_means(type_: Any, default: Any, expected: Any) -> None:
    with module(of({"name": "thing", "type": type_, "default": default})) as made:
        found = made.Sold().thing

    assert found == expected
    assert type(found) is type(expected) or isinstance(found, str)


def test_a_nested_record_is_a_default_too() -> None:
    field = {"name": "line", "type": "shop.Line", "default": {"sku": "pen", "size": "S"}}

    with module(of(field)) as made:
        assert made.Sold().line == made.Line(sku="pen", size=made.Size.S)


def test_limits_of_the_contract_are_limits_of_the_class() -> None:
    saga = of(
        {"name": "price", "type": logical("decimal", "bytes", precision=4, scale=2)},
        {"name": "digest", "type": {"type": "fixed", "name": "Digest", "size": 2}},
        {"name": "at", "type": logical("timestamp-millis", "long")},
    )
    good = {"price": Decimal("12.34"), "digest": b"ab", "at": datetime(2026, 3, 1, tzinfo=UTC)}
    naive = datetime(2026, 3, 1)  # noqa: DTZ001

    with module(saga) as made:
        made.Sold(**good)
        for wrong in ({"price": Decimal("1.234")}, {"price": Decimal(123)}, {"digest": b"abc"}, {"at": naive}):
            with pytest.raises(ValidationError):
                made.Sold(**good | wrong)


def test_a_field_may_bear_the_name_of_a_type() -> None:
    saga = of(
        {"name": "date", "type": ["null", logical("date", "int")], "default": None},
        {"name": "str", "type": ["null", "string"], "default": None},
        {"name": "Decimal", "type": ["null", logical("decimal", "bytes", precision=9, scale=2)], "default": None},
    )

    with module(saga) as made:
        sold = made.Sold(date=date(2026, 3, 1), str="a", Decimal=Decimal(1))

    assert (sold.date, sold.str, sold.Decimal) == (date(2026, 3, 1), "a", Decimal(1))


@pytest.mark.parametrize("name", ["class", "copy", "model_x", "_id", "event_name"])
def test_a_name_that_a_class_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(DefinitionError, match=rf"shop\.Sold\.{name}: .*, and a class can have no such field"):
        python(of({"name": name, "type": "string"}), command="x")


@pytest.mark.parametrize(
    ("type_", "default", "shown"),
    [(["string", "null"], None, "null"), ("bytes", 1, "1"), ("shop.Size", "XL", '"XL"'), ("shop.Line", 1, "1")],
)
def test_a_default_that_its_type_does_not_have_is_refused(type_: Any, default: Any, shown: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        python(of({"name": "a", "type": type_, "default": default}), command="x")

    assert f"the default {shown} of field 'a' does not fit its type" in str(refused.value)


def test_two_types_of_one_name_are_refused() -> None:
    other = {**LINE, "namespace": "stock"}
    saga = of(
        *({"name": f"f{n}", "type": name} for n, name in enumerate(("shop.Line", "stock.Line"))), types=(SIZE, LINE, other)
    )

    with pytest.raises(DefinitionError, match=r"shop\.Line and stock\.Line would both be class Line"):
        python(saga, command="x")


def test_an_unknown_participant_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(DefinitionError, match="has no participant 'stok'; its steps are by orders, payments, shipping, stock"):
        python(Saga.load(CHECKOUT), "stok", command="x")


MILLIS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    ("boolean", st.booleans()),
    ("int", st.integers(-(2**31), 2**31 - 1)),
    ("long", st.integers(-(2**63), 2**63 - 1)),
    ("double", st.floats(allow_nan=False)),
    ("string", st.text()),
    ("bytes", st.binary(max_size=8)),
    ("shop.Size", st.sampled_from(SIZE["symbols"])),
    (logical("uuid", "string"), st.uuids()),
    (logical("decimal", "bytes", precision=9, scale=2), st.decimals(-1_000_000, 1_000_000, places=2)),
    (logical("date", "int"), st.dates()),
    (logical("time-micros", "long"), st.times()),
    (logical("timestamp-millis", "long"), MILLIS.map(lambda moment: moment.replace(tzinfo=UTC))),
    (logical("timestamp-micros", "long"), st.datetimes(datetime(1971, 1, 1), timezones=st.just(UTC))),  # noqa: DTZ001
    (logical("local-timestamp-millis", "long"), MILLIS),
    ("shop.Line", st.fixed_dictionaries({"sku": st.text()}, optional={"size": st.sampled_from(SIZE["symbols"])})),
]
Shape = tuple[Any, st.SearchStrategy[Any]]


def grown(shapes: st.SearchStrategy[Shape]) -> st.SearchStrategy[Shape]:
    def array(shape: Shape) -> Shape:
        return {"type": "array", "items": shape[0]}, st.lists(shape[1], max_size=3)

    def mapping(shape: Shape) -> Shape:
        return {"type": "map", "values": shape[0]}, st.dictionaries(st.text(), shape[1], max_size=3)

    def nullable(shape: Shape) -> Shape:
        return shape if isinstance(shape[0], list) else (["null", shape[0]], st.none() | shape[1])

    return shapes.map(array) | shapes.map(mapping) | shapes.map(nullable)


SHAPES = st.recursive(st.sampled_from(LEAVES), grown, max_leaves=4)


@pytest.mark.slow
@given(data=st.data(), shapes=st.lists(SHAPES, min_size=1, max_size=4))
@settings(max_examples=60)
def test_what_a_class_holds_survives_the_way_over_the_wire(data: st.DataObject, shapes: list[Shape]) -> None:
    saga = of(*({"name": f"field{number}", "type": type_} for number, (type_, _) in enumerate(shapes)))
    values = {f"field{number}": data.draw(strategy) for number, (_, strategy) in enumerate(shapes)}

    with module(saga) as made:
        check_view(made.Sold, saga, "shop.Sold", writes=True)
        check_view(made.Sold, saga, "shop.Sold", writes=False)
        codec, event = AvroCodec(saga), made.Sold(**values)
        read = made.Sold.model_validate(codec.decode("shop.Sold", codec.encode("shop.Sold", event.model_dump())))

    assert read == event


def everything() -> str:
    fields = [{"name": f"field{n}", "type": type_, "doc": "Some thing. " * (n * 2)} for n, (type_, _) in enumerate(LEAVES)]
    fields += [{"name": f"default{n}", "type": type_, "default": value} for n, (type_, value, _) in enumerate(DEFAULTS)]
    fields += [{"name": "either", "type": ["null", "long", "string"], "default": None}]
    fields += [{"name": "digest", "type": {"type": "fixed", "name": "Digest", "size": 2}}]
    return python(of(*fields), command="saga schemas python schemas/sale -o events.py")


def test_what_is_written_has_the_style_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "events.py").write_text(everything())

    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["select"]
    for words in (
        ["check", "--select", ",".join(rules), "--line-length", "128"],
        ["check"],
        ["format", "--check", "--line-length", "128"],
    ):
        command = [sys.executable, "-m", "ruff", *words, "--isolated", "--no-cache", "events.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_what_is_written_is_typed_strictly(tmp_path: Path) -> None:
    (tmp_path / "events.py").write_text(everything())
    (tmp_path / "other.py").write_text(python(Saga.load(CHECKOUT), command="saga schemas python"))

    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "events.py", "other.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_the_command_writes_the_file_and_tells_when_it_is_old(tmp_path: Path) -> None:
    saga = Commands(tmp_path)
    words = ("schemas", "python", CHECKOUT, "--participant", "stock", "-o", "events.py")

    missing, written, fresh = saga(*words, "--check"), saga(*words), saga(*words, "--check")
    (tmp_path / "events.py").write_text("")
    stale = saga(*words, "--check")

    assert (missing.code, written.code, fresh.code, stale.code) == (1, 0, 0, 1)
    assert "error: events.py is not what the contracts say; run: saga schemas python" in stale.err
    assert saga("schemas", "python", CHECKOUT, "--json").json["text"].startswith('"""Events of saga checkout v1. Generated')
    assert saga("schemas", "python", CHECKOUT, "--check").code == 2
