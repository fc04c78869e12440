"""The tutorial, as its reader does it: every block in order, in an empty folder, with the installed commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drills.blocks import Block, blocks, matches
from tests.waiting import until

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
PATIENCE = 60.0


class Reader:
    """Somebody who types what is written: files, commands, and commands that keep a terminal busy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        own = {key: value for key, value in os.environ.items() if not key.startswith("SAGA_")}
        self.environment = {**own, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}", "PYTHONUNBUFFERED": "1"}
        self.environment.pop("PYTHONPATH", None)
        self.terminals: list[subprocess.Popen[bytes]] = []
        self.screen = folder / "screen"
        self.command = ""

    def do(self, block: Block) -> None:
        match block.language, block.words:
            case "sh", "terminal":
                self._open(block.text)
            case "sh", "":
                self.command = block.text
                self._run()
            case "text", "":
                self._expect(block)
            case _:
                assert block.words, f"line {block.line}: a {block.language} block needs the name of its file"
                file = self.folder / block.words
                file.parent.mkdir(exist_ok=True)
                file.write_text(block.text)

    def _open(self, command: str) -> None:
        self.command, self.screen = "", self.folder / f"screen-{len(self.terminals)}"
        with self.screen.open("wb") as screen:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.environment, stdout=screen, stderr=screen
            )
        self.terminals.append(process)

    def _run(self) -> None:
        done = subprocess.run(
            ["bash", "-e", "-c", self.command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
        self.screen = self.folder / "screen"
        self.screen.write_bytes(done.stdout)
        assert done.returncode == 0, f"{self.command}\n{done.stdout.decode()}"

    def _expect(self, block: Block) -> None:
        """A reader who looks too early looks again; only looking is repeated."""

        def seen() -> bool:
            text = self.screen.read_text()
            if matches(block.text, text):
                return True
            if self.command.startswith("saga show"):
                self._run()
            elif self.command:
                raise AssertionError(f"line {block.line}: expected\n{block.text}\nbut found\n{text}")
            return False

        try:
            until(seen, seconds=PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"line {block.line}: expected\n{block.text}\nbut found\n{self.screen.read_text()}") from error


@contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    """At the end the reader presses Ctrl-C in every terminal."""
    reader = Reader(folder)
    try:
        yield reader
    finally:
        for terminal in reversed(reader.terminals):
            terminal.send_signal(signal.SIGINT)
            try:
                terminal.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                terminal.kill()
                terminal.wait()


@pytest.mark.slow
def test_the_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    with reading(tmp_path) as reader:
        for block in blocks(TUTORIAL):
            reader.do(block)

    assert [terminal.returncode for terminal in reader.terminals] == [0, 0, 0]


def test_output_is_compared_in_full() -> None:
    assert matches("a … c\n", "a b c \n")
    assert not matches("a … c\n", "a b c\nand more\n")
