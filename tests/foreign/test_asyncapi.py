"""The official parser reads our AsyncAPI documents and has nothing to complain of."""

from __future__ import annotations

from pathlib import Path

import pytest

from saga import Saga
from saga.documents.folder import write
from saga.documents.library import library
from tests.documented import CHECKOUT, returns
from tests.foreign.conftest import Judge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_official_parser_accepts_every_document(judge: Judge, tmp_path: Path) -> None:
    write(tmp_path, library([(Saga.load(CHECKOUT), {}), (returns(), {})]))
    files = sorted(tmp_path.rglob("*asyncapi.json"))

    found = judge("asyncapi.js", *files)

    assert len(found) == len(files) == 2 + 4 + 3
    for file, told in found.items():
        complaints = [c for c in told["complaints"] if c["code"] != "asyncapi-latest-version"]  # 3.0 was asked for
        assert complaints == [], file
        assert told["version"] == "3.0.0"
        assert told["operations"]
        assert told["messages"]


def test_the_parser_would_complain(judge: Judge, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    document = library([(Saga.load(CHECKOUT), {})])["checkout/asyncapi.json"]
    broken.write_text(document.replace('"type": "record"', '"type": "rekord"'))

    [told] = judge("asyncapi.js", broken).values()

    assert [c for c in told["complaints"] if c["severity"] == 0]
