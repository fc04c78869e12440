"""The file map of ARCHITECTURE.md against the files, and its layers against the tested ones."""

from __future__ import annotations

import re

from tests.sources import FILES, ROOT
from tests.test_imports import LAYERS

TEXT = (ROOT / "ARCHITECTURE.md").read_text()
MAPPED = re.findall(r"^\| `([\w/.]+)` \|", TEXT, re.MULTILINE)


def test_everything_in_the_file_map_exists_and_is_there_once() -> None:
    assert [path for path in MAPPED if not (ROOT / path).exists()] == []
    assert sorted(MAPPED) == sorted(set(MAPPED))


def test_every_module_of_the_library_is_in_the_file_map() -> None:
    """Those without a line of code are not."""
    modules = {str(file.relative_to(ROOT)) for file in FILES if file.read_text() and file.name != "__init__.py"}

    assert modules - set(MAPPED) == set()


def test_every_folder_of_the_project_is_in_the_file_map() -> None:
    folders = {path.parent.name for path in ROOT.glob("[a-z]*/*.py")} | {"schemas", "docs"}

    assert folders - {"saga"} <= set(MAPPED)


def test_the_layers_are_those_that_the_imports_are_held_to() -> None:
    [listed] = re.findall(r"Layers, .*? in this list: (.*?)\. Adapters", TEXT, re.DOTALL)

    assert [text.split() for text in re.findall(r"`([\w ]+)`", listed)] == [[*rooms] for rooms in LAYERS]
