"""The folder that is written: a list in it says which files are ours, so that no other file is ever overwritten or removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from saga.errors import SagaError
from saga.whole import put

LIST = ".saga-docs"


@dataclass(frozen=True, slots=True)
class Written:
    """What was done to the folder: files written, and files of an earlier run that were removed."""

    written: tuple[str, ...]
    removed: tuple[str, ...]


def write(folder: Path, files: Mapping[str, str], *, force: bool = False) -> Written:
    """Make the folder hold these files, by relative path, and no other file of an earlier run.

    Raises SagaError if something is there that no earlier run wrote, unless `force`; then the rest of it is left alone. A file
    that would lie elsewhere is refused in any case.
    """
    for name in files:
        if not _is_inside(name):
            raise SagaError(f"the file {name!r} would lie outside of {str(folder)!r}; rename the saga, participant or event")
    ours = _ours(folder)
    if ours is None and not force and _foreign(folder):
        raise SagaError(
            f"{str(folder)!r} is not empty and was not written by `saga docs` (it has no {LIST}); "
            f"name another folder with --into, or write into this one with --force"
        )
    earlier = ours or set()
    _list(folder, earlier | set(files))  # first, so that a run that was interrupted leaves nothing that is nobody's
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, content.encode())
    stale = sorted(earlier - set(files))
    for name in stale:
        _remove(folder, name)
    _list(folder, files)
    return Written(tuple(sorted(files)), tuple(stale))


def _ours(folder: Path) -> set[str] | None:
    """The files of the last run; None if there was none. A path that leads elsewhere is not believed."""
    if not (folder / LIST).is_file():
        return None
    names = (folder / LIST).read_text(encoding="utf-8").split("\n")
    return {name for name in names if name and _is_inside(name)}


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _foreign(folder: Path) -> bool:
    if folder.exists() and not folder.is_dir():
        raise SagaError(f"{str(folder)!r} is a file; name a folder with --into")
    return folder.is_dir() and any(folder.iterdir())


def _list(folder: Path, names: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    put(folder / LIST, "".join(f"{name}\n" for name in sorted(names)).encode())


def _remove(folder: Path, name: str) -> None:
    """A file, and the folders that it leaves empty."""
    path = folder / name
    path.unlink(missing_ok=True)
    for parent in path.relative_to(folder).parents:
        if parent != Path() and (folder / parent).is_dir() and not any((folder / parent).iterdir()):
            (folder / parent).rmdir()
