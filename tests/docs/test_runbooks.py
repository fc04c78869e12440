"""The pages for whoever is on call: all of one shape, and nothing on them that is not there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.core import TyperGroup

from drills.__main__ import NAMES, drill
from drills.blocks import blocks
from drills.page import FOLDER, acts
from saga.observe.figures import FIGURES
from tests.commands import SAGA
from tests.sources import FILES, ROOT

INDEX, OTHERS = "README.md", {"README.md", "verbs.md", "review-template.md"}
PAGES = sorted(file for file in FOLDER.glob("*.md") if file.name not in OTHERS)
SHAPE = ["You see", "It means", "Look", "Do", "It is over when", "Escalate"]
SOURCE = "\n".join(file.read_text() for file in FILES)
each_page = pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
every_page = pytest.mark.parametrize("file", sorted(FOLDER.glob("*.md")), ids=lambda file: file.stem)


@each_page
def test_a_page_has_the_shape_that_all_have(file: Path) -> None:
    assert re.findall(r"^## (.*)$", file.read_text(), re.MULTILINE) == SHAPE


@each_page
def test_a_page_fits_on_two_screens(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 130


def test_the_index_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([\w.-]+\.md)\)", (FOLDER / INDEX).read_text()))

    assert linked == {file.name for file in FOLDER.glob("*.md")} - {INDEX}


def test_every_page_has_its_drill_and_every_drill_its_page() -> None:
    assert sorted({drill(name).page for name in NAMES}) == PAGES
    assert [drill(name).name for name in NAMES] == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_page_asks_of_people_is_what_its_drill_can_do(name: str) -> None:
    assert list(acts(drill(name).page).values()) == list(drill(name).acts)


@every_page
def test_every_figure_on_a_page_is_measured(file: Path) -> None:
    named = set(re.findall(r"`(saga\.[a-z_.]+)`(?! topic)", file.read_text()))
    figures, loggers = {figure.name for figure in FIGURES}, set(re.findall(r'getLogger\("(saga\.\w+)"\)', SOURCE))

    assert named <= figures | loggers


@every_page
def test_every_command_on_a_page_exists_with_its_options(file: Path) -> None:
    shown = [line for block in blocks(file) if block.language == "sh" for line in block.text.splitlines()]
    inline = re.findall(r"`(saga [^`]+)`", file.read_text())

    assert [line for line in [*shown, *inline] if line.startswith("saga ") and not _exists(shlex.split(line))] == []


@each_page
def test_what_health_is_said_to_say_is_in_the_code(file: Path) -> None:
    """Words in quotes of code, part by part, as they stand in the source between what differs."""
    said = re.findall(r"`saga health` says[^`]*`([^`]+)`", file.read_text())
    parts = [part.strip(" :") for text in said for part in re.split(r"…|\d+|^\w+:", text) if part.strip(" :")]

    assert [part for part in parts if part not in _plain(SOURCE)] == []


def test_make_lists_the_drills() -> None:
    assert re.search(r"^drill:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


def _plain(source: str) -> str:
    """Without what joins a text over lines, and with what is filled in left out."""
    return re.sub(r"\{[^{}]*\}", "", re.sub(r'"\s*\n\s*f?"', "", source)).replace("''", "")


def _exists(words: list[str]) -> bool:
    """Whether the command line has such a command, and the command every option that is given."""
    command = SAGA
    while isinstance(command, TyperGroup) and len(words) > 1 and not words[1].startswith("-"):
        if (inner := command.commands.get(words[1])) is None:
            return False
        command, words = inner, words[1:]
    options = {option for parameter in command.params for option in parameter.opts}
    return {word for word in words if word.startswith("--")} <= options
