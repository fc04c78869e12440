"""The library's own source files as data: which module imports which, where."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "saga").rglob("*.py"))


def module(file: Path) -> str:
    """The dotted name of a source file; a package's is that of its folder."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(file): file for file in FILES}


@cache
def imports(file: Path) -> list[tuple[int, str]]:
    """Line and dotted name of everything a file imports, in functions and under TYPE_CHECKING too."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            found += ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{file}:{node.lineno} imports relatively"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += ((node.lineno, name if name in MODULES else node.module) for name in inner)
    return found
