"""Files that appear under their names once they are whole, whoever ends, or runs out of disk, while they are written."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from saga.errors import SagaError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What writing fails with, and the system names no file."""


def put(file: Path, content: bytes) -> None:
    """Write all of it."""
    with whole(file) as opened:
        opened.write(content)


@contextmanager
def whole(file: Path) -> Iterator[BinaryIO]:
    """What is written inside the block has the file's name afterwards, and is on the disk by then.

    A link goes on leading to where it leads. A pipe or a device is written to as it is, since nothing may take its place.
    Raises SagaError while somebody else writes the same file.
    """
    is_irreplaceable = file.exists() and not file.is_file()
    place = file.resolve() if file.is_symlink() else file
    try:
        with file.open("wb") if is_irreplaceable else _replacing(place) as opened:
            yield opened
    except OSError as error:
        if error.errno in _FULL:
            error.filename = error.filename or str(file)  # which is told instead of a traceback
        raise


@contextmanager
def _replacing(place: Path) -> Iterator[BinaryIO]:
    part = place.with_name(f"{place.name}.part")
    with _alone(part, place) as opened:
        try:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
            part.replace(place)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextmanager
def _alone(part: Path, file: Path) -> Iterator[BinaryIO]:
    """The part, empty and held by a lock that the kernel drops: who was killed leaves one that the next one takes over."""
    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "wb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.samestat(os.fstat(opened.fileno()), part.stat())  # and has not got the file's name meanwhile
        except (BlockingIOError, FileNotFoundError):
            is_ours = False
        if not is_ours:
            raise SagaError(f"{file} is being written by somebody else; wait for that, or name another file")
        opened.truncate()
        yield opened
