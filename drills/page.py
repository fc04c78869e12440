"""A page for whoever is on call, followed to the letter: its commands are run, and its output is to be found on the screen.

What the page asks of people stands in it as `<!-- drill: NAME -->`, which nobody reads but a drill.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from demo.books import ROOT
from demo.fleet import foreign_environment
from drills.blocks import Block, blocks, matches
from drills.scene import PATIENCE, DrillFailed, Scene, path_of_commands

FOLDER = ROOT / "docs" / "operations"
READING = re.compile(
    r"saga (health|parked|list|show|state|trace|doctor|unacknowledged|lanes list|dead-letters (list|show))\b|cat |grep "
)
"""Commands that may be run again, until they show what the page says."""

AGAIN = 0.5
"""Seconds until then: a command takes as long to start, from a fleet that is to move on."""

_ACT = re.compile(r"^<!-- drill: ([a-z-]+) -->$", re.MULTILINE)

Act = Callable[[Scene], None]


def page(name: str) -> Path:
    """Where the page of an alarm is."""
    return FOLDER / f"{name}.md"


def acts(file: Path) -> dict[int, str]:
    """Line number to what people have to do there."""
    content = file.read_text()
    return {content.count("\n", 0, found.start()) + 1: found[1] for found in _ACT.finditer(content)}


def follow(file: Path, scene: Scene, done_by_people: Mapping[str, Act], sooner: Mapping[str, str]) -> None:
    """Do what the page says, with spans of time cut as `sooner` has it. Raises DrillFailed where the page is wrong."""
    steps: list[tuple[int, Block | str]] = [*acts(file).items(), *((block.line, block) for block in blocks(file))]
    waiting: Block | None = None
    for line, step in sorted(steps, key=lambda one: one[0]):
        if isinstance(step, Block) and step.language == "text":
            if waiting is None:
                raise DrillFailed(f"{file.name}:{line}: output without a command")
            _run(file, waiting, scene, sooner, expected=step.text)
            waiting = None
            continue
        if waiting is not None:
            _run(file, waiting, scene, sooner, expected=None)
            waiting = None
        if isinstance(step, str):
            done_by_people[step](scene)
        elif step.language == "sh":
            waiting = step
    if waiting is not None:
        _run(file, waiting, scene, sooner, expected=None)


def _run(file: Path, block: Block, scene: Scene, sooner: Mapping[str, str], *, expected: str | None) -> None:
    script = block.text
    for long, short in sooner.items():
        script = script.replace(long, short)
    again = all(READING.match(line) for line in script.splitlines())
    give_up = time.monotonic() + (PATIENCE if again else 0.0)
    while True:
        code, said = shell(script, scene)
        fits = code <= (1 if again else 0) and (expected is None or matches(_one_blank(expected), _one_blank(said)))
        if fits:
            return
        if time.monotonic() > give_up:
            raise DrillFailed(
                f"{file.name}:{block.line}: {script.strip()}\nended with {code}; "
                f"expected\n{expected or 'success'}\nbut found\n{said}"
            )
        time.sleep(AGAIN)


def _one_blank(text: str) -> str:
    """Columns are as wide as what stands in them."""
    return re.sub(" +", " ", text)


def shell(script: str, scene: Scene) -> tuple[int, str]:
    """How a script ends in the scene, and what it says."""
    settings = {**foreign_environment(), **scene.exports, "PATH": path_of_commands(), "PYTHONPATH": scene.fleet.path}
    done = subprocess.run(
        ["bash", "-e", "-c", script],  # noqa: S607 - the shell of whoever follows the page
        cwd=scene.root,
        env={**settings, "COLUMNS": "500", "HOME": os.environ.get("HOME", "/")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout
