"""What `docs/evolution.md` shows is what happens, block by block, in a repository of its own."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.blocks import blocks, matches
from saga import Saga
from saga.contracts.upcast import Upcasters
from tests.commands import Commands, Said, schemas, written
from tests.optional import needs
from tests.unit.test_cli_evolution import PAY, PLACE, commit, git

pytestmark = needs("avro")

PAGE = Path(__file__).parents[2] / "docs" / "evolution.md"
SERVICE = """
from events import Declined, Paid, Placed

from saga import Participant, Saga, Transaction

bank = Participant("bank", Saga.load("contracts"))


@bank.step
def pay(order: Placed, tx: Transaction) -> Paid | Declined:
    return Paid(order_id=order.order_id)
"""


@pytest.fixture(autouse=True)
def forgotten_modules() -> Iterator[None]:
    """What the page's service is made of must not be found by another test."""
    yield
    for name in ("bank", "events"):
        sys.modules.pop(name, None)


def test_the_page_can_be_followed(tmp_path: Path) -> None:
    written(tmp_path / "contracts", schemas(PLACE, PAY))
    (tmp_path / "bank.py").write_text(SERVICE)
    git(tmp_path, "init", "--quiet")
    commit(tmp_path, "The first contracts")
    saga, said = Commands(tmp_path), Said(0, "", "")

    for block in blocks(PAGE):
        match block.language:
            case "json":
                (tmp_path / block.words).write_text(block.text)
            case "sh":
                program, *words = shlex.split(block.text)
                assert program == "saga"
                said = saga(*words)
            case "text":
                found = " ".join(said.out.split())
                assert matches(" ".join(block.text.split()), found), f"line {block.line}: found\n{said.out}{said.err}"
            case "python":
                _raises_old_events(block.text)

    assert Saga.load(tmp_path / "contracts").version == 1


def _raises_old_events(text: str) -> None:
    shown: dict[str, object] = {"__name__": "shown"}
    exec(text, shown)
    upcasters = shown["upcasters"]
    assert isinstance(upcasters, Upcasters)
    raised = upcasters.raised("checkout.Placed", "checkout.PlacedInFull", {"order_id": "o1"})
    assert raised == {"order_id": "o1", "total": 0}
