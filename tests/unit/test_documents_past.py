"""What the documents tell of earlier editions of a contract."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from saga import Saga
from saga.documents.library import library
from saga.documents.past import past
from saga.errors import DefinitionError
from saga.evolution.change import Verdict
from saga.evolution.history import History
from tests.documented import returns
from tests.optional import needs

pytestmark = needs("avro")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with a contract folder, committed once."""
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    saga = returns()
    folder = tmp_path / "contracts"
    folder.mkdir()
    for schema in (saga.own, *(saga.types[name] for name in saga.types if name.startswith("returns."))):
        put(folder, schema)
    commit(tmp_path, "2026-01-01")
    return folder


def git(folder: Path, *arguments: str, **environment: str) -> None:
    named = ["-c", "user.name=Author", "-c", "user.email=author@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", folder, *named, *arguments], check=True, capture_output=True, env={"HOME": "/", **environment})


def commit(folder: Path, day: str) -> None:
    moment = f"{day}T12:00:00+00:00"
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=more", GIT_AUTHOR_DATE=moment, GIT_COMMITTER_DATE=moment)


def put(folder: Path, schema: dict[str, Any]) -> None:
    (folder / f"{schema['name']}.avsc").write_bytes(orjson.dumps(schema))


def told(folder: Path, name: str) -> list[tuple[str | None, list[str]]]:
    editions = past(Saga.load(folder), History(folder))[name]
    return [(e.revision.day if e.revision else None, [str(change) for change in e.changes]) for e in editions]


def test_each_edition_of_a_contract_is_told_newest_first(folder: Path) -> None:
    scrapped = returns().types["returns.GoodsScrapped"]
    field = {"name": "why", "type": "string", "default": ""}
    put(folder, {**scrapped, "fields": [*scrapped["fields"], field]})
    commit(folder, "2026-02-01")
    put(folder, {**scrapped, "doc": "Nothing is left."})

    [removed, added, new] = told(folder, "returns.GoodsScrapped")

    assert removed[0] is None
    assert "GoodsScrapped.why: it was removed and had its default; old and new read each other" in removed[1]
    assert added == ("2026-02-01", ['GoodsScrapped.why: it was added with the default ""; old and new read each other'])
    assert new == ("2026-01-01", ["GoodsScrapped: it is new"])
    assert told(folder, "returns.GoodsIntact") == [("2026-01-01", ["GoodsIntact: it is new"])]


def test_the_saga_is_told_by_its_steps_with_the_verdict(folder: Path) -> None:
    own = returns().own
    put(folder, {**own, "saga": {**own["saga"], "deadline": "P7D"}})

    [now, new] = past(Saga.load(folder), History(folder))["returns.Return"]

    assert [change.verdict for change in now.changes] == [Verdict.NEW_VERSION]
    assert now.changes[0].text.startswith("its deadline went from 14 days down to 7 days")
    assert new.revision is not None


def test_a_commit_at_which_it_was_no_saga_is_passed_over(folder: Path) -> None:
    (folder / "Return.avsc").write_text("{")
    commit(folder, "2026-02-01")
    put(folder, returns().own)
    commit(folder, "2026-03-01")

    assert told(folder, "returns.Return") == [("2026-01-01", ["Return: it is new"])]


def test_the_page_tells_it(folder: Path) -> None:
    saga = Saga.load(folder)

    page = library([(saga, past(saga, History(folder)))])["returns/events/GoodsIntact.html"]

    assert "2026-01-01" in page
    assert "GoodsIntact: it is new" in page


def test_what_git_does_not_know_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError):
        past(returns(), History(tmp_path))
