"""The fenced blocks of a Markdown file, in order, with the words behind their language."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """`words` is what follows the language: a file name, or `terminal` for a command that goes on."""

    language: str
    words: str
    text: str
    line: int


def blocks(file: Path) -> list[Block]:
    content = file.read_text()
    found = _FENCE.finditer(content)
    return [Block(m[1], m[2] or "", m[3], content.count("\n", 0, m.start()) + 1) for m in found]


def matches(expected: str, found: str) -> bool:
    """Whether the output is the expected one, in which `…` stands for anything; trailing blanks do not count."""
    pattern = ".*?".join(re.escape(part) for part in _trimmed(expected).split("…"))
    return re.fullmatch(pattern, _trimmed(found), re.DOTALL) is not None


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
