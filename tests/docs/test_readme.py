"""The README says only what is there: tests that exist, the saga's own picture, the tutorial's code, links that lead on."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from drills.blocks import blocks
from saga import Saga
from saga.protocol.diagram import mermaid
from tests.sources import ROOT

README = ROOT / "README.md"
PROMISES = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", README.read_text())
OTHERS = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "schemas/README.md")
DOCUMENTS = [README, *(ROOT / name for name in OTHERS)]


@pytest.mark.parametrize(("file", "name"), PROMISES)
def test_a_promise_names_a_test_that_exists(file: str, name: str) -> None:
    tests = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)}

    assert not name or name in tests


def test_there_are_promises() -> None:
    assert len(PROMISES) > 10


def test_the_picture_is_the_one_that_is_drawn() -> None:
    [picture] = [block.text for block in blocks(README) if block.language == "mermaid"]

    assert picture.strip() == mermaid(Saga.load(ROOT / "schemas" / "checkout")).strip()


def test_the_participant_that_is_shown_is_the_tutorials() -> None:
    [shown] = [block.text for block in blocks(README) if block.language == "python"]
    [kitchen] = [block.text for block in blocks(ROOT / "docs" / "tutorial.md") if block.words == "kitchen.py"]
    lines = [line for line in shown.splitlines() if line.strip()]

    assert len(lines) <= 15
    assert [line for line in lines if line not in kitchen.splitlines()] == []


def test_the_figures_are_those_that_were_measured() -> None:
    told = re.findall(r"^\|[^|]+\| ([\d,]+) \|$", README.read_text(), re.MULTILINE)
    measured = re.findall(r"^\|[^|]+\| ([\d,]+) \|", (ROOT / "benchmarks" / "RESULTS.md").read_text(), re.MULTILINE)

    assert len(told) == 7
    assert set(told) <= set(measured)


@pytest.mark.parametrize("document", [*DOCUMENTS, *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda file: file.name)
def test_links_lead_to_files_that_exist(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", document.read_text())

    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_the_commands_that_make_is_given_exist() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {word for file in DOCUMENTS for word in re.findall(r"(?:^|`)make ([a-z-]+)", file.read_text(), re.MULTILINE)}

    assert used <= known
