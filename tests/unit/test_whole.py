"""Files that commands write: there under their names once they are whole, whatever ends who writes them."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from saga.contracts.schema import Schema
from saga.errors import SagaError
from saga.replay import avro_file
from saga.whole import put
from tests.sources import ROOT

WORDS: Schema = {"type": "record", "name": "Word", "fields": [{"name": "text", "type": "string"}]}
CHECKOUT = ROOT / "schemas" / "checkout"
DIE = """
import os, signal, sys
from pathlib import Path
from saga.whole import whole

with whole(Path(sys.argv[1])) as opened:
    opened.write(b"much more than what will be written by whoever comes after")
    opened.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def words(file: Path, *texts: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    def records() -> Iterator[dict[str, str]]:
        for text in texts:
            yield {"text": text}
        meanwhile()

    avro_file.write(file, WORDS, records(), {})


def read(file: Path) -> list[str]:
    return [record["text"] for record in avro_file.read(file)]


def saga(folder: Path, *arguments: str | Path, most_bytes: int) -> subprocess.CompletedProcess[str]:
    """A command on a disk that is full after so many bytes of a file."""

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    return subprocess.run(
        [sys.executable, "-B", "-m", "saga", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, preexec_fn=bound, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_of_two_that_write_a_file_at_once_the_second_is_told_and_the_first_writes_it_whole(tmp_path: Path) -> None:
    file = tmp_path / "words.avro"

    def second() -> None:
        with pytest.raises(SagaError, match=r"words\.avro is being written by somebody else; wait for that, or name another"):
            words(file, "second")

    words(file, "first", "one", meanwhile=second)

    assert read(file) == ["first", "one"]
    words(file, "third")
    assert read(file) == ["third"]
    assert [*tmp_path.iterdir()] == [file]


def test_what_somebody_who_was_killed_has_left_is_written_over(tmp_path: Path) -> None:
    file = tmp_path / "words.avro"
    words(file, "earlier")

    died = subprocess.run([sys.executable, "-c", DIE, file], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)

    assert died.returncode == -signal.SIGKILL
    assert read(file) == ["earlier"]
    words(file, "new")
    assert read(file) == ["new"]
    assert [*tmp_path.iterdir()] == [file]


def test_event_classes_for_which_the_disk_has_no_room_leave_the_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "events.py").write_text("# earlier\n")

    ended = saga(tmp_path, "schemas", "python", CHECKOUT, "-o", "events.py", most_bytes=1000)

    assert ended.returncode == 1, ended.stderr
    assert ended.stderr == "error: events.py: File too large\n"
    assert (tmp_path / "events.py").read_text() == "# earlier\n"


def test_documents_for_which_the_disk_has_no_room_are_not_there_by_half(tmp_path: Path) -> None:
    ended = saga(tmp_path, "docs", CHECKOUT, "--into", "docs", most_bytes=3000)

    assert ended.returncode == 1, ended.stderr
    assert "File too large" in ended.stderr
    assert [path.name for path in (tmp_path / "docs").rglob("*") if path.stat().st_size in {0, 3000} and path.is_file()] == []


def test_a_pipe_gets_what_is_written_and_a_link_goes_on_leading_to_where_it_leads(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.avro").symlink_to(tmp_path / "words.avro")
    got = list[bytes]()
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()), daemon=True)
    reader.start()

    words(tmp_path / "link.avro", "linked")
    put(tmp_path / "pipe", b"piped")
    reader.join(10)

    assert read(tmp_path / "words.avro") == ["linked"]
    assert (tmp_path / "link.avro").is_symlink()
    assert (tmp_path / "pipe").is_fifo()
    assert got == [b"piped"]
