from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import Commands, schemas, written
from tests.documented import CHECKOUT


@pytest.fixture
def saga(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


def test_documents_are_written_and_told(saga: Commands, tmp_path: Path) -> None:
    said, told = saga("docs", CHECKOUT), saga("docs", CHECKOUT, "--json").json

    files = {str(file.relative_to(tmp_path / "build" / "docs")) for file in (tmp_path / "build" / "docs").rglob("[!.]*.*")}
    assert said.code == 0
    assert said.out == f"wrote {len(files)} files to build/docs\n"
    assert set(told["written"]) == files
    assert {"checkout/asyncapi.json", "checkout/participants/stock.asyncapi.json", "checkout/diagram.mmd"} <= files
    assert (told["missing"], told["removed"], told["into"]) == ([], [], "build/docs")


def test_a_second_run_writes_the_same_bytes(saga: Commands, tmp_path: Path) -> None:
    saga("docs", CHECKOUT, "--into", "a")
    saga("docs", CHECKOUT, "--into", "b")

    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_missing_texts_are_told_and_nothing_is_written(saga: Commands, tmp_path: Path) -> None:
    bare = written(tmp_path / "bare", schemas({"name": "begin", "by": "orders", "emits": ["Begun"], "compensated": None}))

    said, told = saga("docs", bare), saga("docs", bare, "--json")

    assert (said.code, told.code) == (1, 1)
    assert f'{bare}: Checkout.begin: no "doc"; say when the step succeeds' in said.out.splitlines()
    assert "4 texts are missing, nothing was written" in said.err
    assert len(told.json["missing"]) == 4
    assert not (tmp_path / "build").exists()


def test_to_check_writes_nothing(saga: Commands, tmp_path: Path) -> None:
    said, told = saga("docs", CHECKOUT, "--check"), saga("docs", CHECKOUT, "--check", "--json")

    assert said.out == f"no text is missing in {CHECKOUT}\n"
    assert told.json == {"missing": []}
    assert not (tmp_path / "build").exists()


def test_a_folder_of_others_is_refused(saga: Commands, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    refused, forced = saga("docs", CHECKOUT, "--into", "."), saga("docs", CHECKOUT, "--into", ".", "--force")

    assert (refused.code, forced.code) == (1, 0)
    assert "name another folder with --into, or write into this one with --force" in refused.err


def test_one_saga_twice_is_refused(saga: Commands) -> None:
    said = saga("docs", CHECKOUT, CHECKOUT)

    assert said.code == 2
    assert "found two sagas 'checkout'" in said.err


def test_the_partition_count_is_told_where_it_is_known(saga: Commands, tmp_path: Path) -> None:
    saga("docs", CHECKOUT, "--partitions", "12")

    told = (tmp_path / "build" / "docs" / "checkout" / "asyncapi.json").read_text()

    assert told.count('"partitions": 12') == 3
