"""The words of the glossary are the words of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.sources import ROOT

GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"
ROWS = re.findall(r"^\| ([^|`]+) \| .+ \| ([^|]+) \|$", GLOSSARY.read_text(), re.MULTILINE)[1:]
TERMS = {word: re.findall(r"`(\w+)`", places) for word, places in ROWS}
CODE = {
    word
    for ending in ("py", "sql", "avsc")
    for file in (ROOT / "saga").rglob(f"*.{ending}")
    for word in re.findall(r"\w+", file.read_text())
}


@pytest.mark.parametrize("word", TERMS)
def test_a_word_lives_where_the_glossary_says(word: str) -> None:
    assert TERMS[word], "no place in the code is given"
    assert set(TERMS[word]) <= CODE


def test_words_are_explained_once() -> None:
    assert len(TERMS) == len(ROWS) > 30
