"""The page about versions: its code is declared, its commands do what they say."""

from __future__ import annotations

import shlex
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from drills.blocks import Block, blocks, matches
from saga.store.port import Changes
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Workflow
from tests.commands import Commands, Said

PAGE = Path(__file__).parents[2] / "docs" / "versions.md"


def _record(name: str, **fields: str) -> dict[str, Any]:
    described = [{"name": field, "type": kind} for field, kind in {"parcel_id": "string", **fields}.items()]
    return {"type": "record", "name": name, "namespace": "parcels", "fields": described}


def _step(name: str, by: str, emits: str, on: str | None = None) -> dict[str, Any]:
    step = {"by": by, "emits": [emits], "compensated": None, **({"on": [on]} if on else {})}
    return {"name": name, "type": ["null", emits], "default": None, "step": step}


def _contracts(folder: Path, version: int) -> None:
    order = _step("order", "shop", "ParcelOrdered")
    weigh = _step("weigh", "depot", "ParcelWeighed", "ParcelOrdered")
    send = _step("send", "depot", "ParcelSent", "ParcelWeighed" if version == 2 else "ParcelOrdered")
    parcels = {
        "type": "record",
        "name": "Parcel",
        "namespace": "parcels",
        "saga": {"name": "parcels", "version": version, "owner": "shop", "deadline": "P1D"},
        "fields": [order, *([weigh] if version == 2 else []), send],
    }
    folder.mkdir(parents=True)
    for schema in (_record("ParcelOrdered"), _record("ParcelWeighed", grams="long"), _record("ParcelSent"), parcels):
        (folder / f"{schema['name']}.avsc").write_bytes(orjson.dumps(schema))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for version in (1, 2):
        _contracts(tmp_path / "contracts" / f"v{version}", version)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weighed.jsonl").write_bytes(
        b"\n".join(orjson.dumps({"parcel_id": f"p{n}", "grams": grams}) for n, grams in enumerate([400, "120", "heavy"]))
    )
    return tmp_path


def test_the_page_is_true(folder: Path) -> None:
    found = blocks(PAGE)
    code = "\n".join(block.text for block in found if block.language == "python")
    (folder / "parcels.py").write_text(code)
    names: dict[str, Any] = {"__name__": "parcels"}
    exec(compile(code, "parcels.py", "exec"), names)
    names["depot"].check()
    with closing(SqliteStore(folder / "depot.db", migrate=True)) as store:
        store.release(store.claim("parcels", 0, 1))
        with store.unit() as unit:
            begun = Workflow(id="p9", version=1, lane=0, opened=datetime(2026, 3, 1, tzinfo=UTC))
            unit.save("parcels", Changes(workflows=[begun]))

    follow(Commands(folder), [block for block in found if block.language in {"sh", "text"}])


def follow(commands: Commands, found: list[Block]) -> None:
    said = Said(0, "", "")
    for block in found:
        if block.language == "text":
            assert matches(block.text, said.out), f"line {block.line}: expected\n{block.text}\nbut found\n{said.out}{said.err}"
        else:
            program, *arguments = shlex.split(block.text)
            assert program == "saga"
            said = commands(*arguments, SAGA_DATABASE="sqlite:///depot.db")
