"""The site in a real browser: on a phone and on a wide screen, in light and dark."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from saga import Saga
from saga.documents.folder import write
from saga.documents.library import library
from saga.documents.past import past
from saga.evolution.history import History
from saga.observer.observer import Observer
from saga.observer.site import answer
from saga.replay.contracts import Contracts
from tests.documented import CHECKOUT, loan, returns
from tests.foreign.conftest import Judge
from tests.histories import lived
from tests.optional import needs
from tests.travel import saga as travel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), needs("avro")]


def looked_at(judge: Judge, browser: Path, folder: Path, *pages: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = judge("browser.js", browser, folder, *pages)
    return found


def test_every_page_is_legible_wherever_it_is_read(judge: Judge, browser: Path, tmp_path: Path) -> None:
    checkout = Saga.load(CHECKOUT)
    write(tmp_path, library([(checkout, past(checkout, History(CHECKOUT))), (returns(), {}), (loan(), {})]))
    pages = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.html"))

    found = looked_at(judge, browser, tmp_path, *pages)

    assert len(found) == 4 * len(pages) > 100
    for told in found:
        where = f"{told['page']} on {told['screen']} in {told['colorScheme']}"
        assert told["texts"] > 20, where
        assert told["faint"] == [], where
        assert told["outside"] == [], where
        assert told["small"] == 0, where
        assert told["overflow"] <= 0, where
        assert (told["told"], told["asked"]) == ([], []), where
    assert len({told["ground"] for told in found}) == 2


def test_the_pages_of_the_observer_are_as_legible(judge: Judge, browser: Path, tmp_path: Path) -> None:
    with lived() as fleet:
        observer = Observer(Contracts([travel()]), fleet.broker, fleet.clock, idle=timedelta(hours=1))
        observer.look()
        fleet.clock.advance(120)
        for name, path in {"overview": "/", "undone": "/workflow?id=poor", "waiting": "/workflow?id=open"}.items():
            (tmp_path / f"{name}.html").write_bytes(answer(observer, "GET", path).body)

    found = looked_at(judge, browser, tmp_path, "overview.html", "undone.html", "waiting.html")

    assert len(found) == 12
    for told in found:
        where = f"{told['page']} on {told['screen']} in {told['colorScheme']}"
        assert told["texts"] > 20, where
        assert (told["faint"], told["outside"], told["small"]) == ([], [], 0), where
        assert told["overflow"] <= 0, where
        assert (told["told"], told["asked"]) == ([], []), where


def test_the_browser_would_complain(judge: Judge, browser: Path, tmp_path: Path) -> None:
    """What is wrong with this page: grey on white, too wide, a script that fails, a picture from elsewhere."""
    page = '<body style="background:#fff"><p style="color:#aaa;width:2000px">faint<script>throw 1</script><img src="http://127.0.0.1:1/x">'
    (tmp_path / "bad.html").write_text(page)

    told = looked_at(judge, browser, tmp_path, "bad.html")[0]

    assert told["faint"] == ["2.32: faint"]
    assert told["overflow"] > 1000
    assert told["told"]
    assert told["asked"] == ["http://127.0.0.1:1/x"]
