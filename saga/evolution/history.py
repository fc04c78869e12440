"""Every state of a contract folder that git remembers. The only place that runs git, and it only reads."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from saga.contracts.saga import Saga
from saga.contracts.schema import Schema, full_name
from saga.errors import DefinitionError

SECONDS = 60.0
_SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit: its full hash, its day (ISO 8601), and the first line of its message."""

    commit: str
    day: str
    subject: str

    def __str__(self) -> str:
        return f"{self.commit[:10]} of {self.day} ({self.subject})"


class History:
    """The past of one folder; raises DefinitionError where there is no git, no work tree, or only a part of the past."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DefinitionError(f"there is no folder {str(folder)!r}; name the saga's contract folder")
        self.folder = folder
        self._own = self._git("rev-parse", "--show-prefix").decode().strip()
        self._beside: tuple[str, ...] = ()

    def with_folders_beside(self, saga: str) -> History:
        """This past and that of the folders beside and above it in which a saga of this name is, or was last."""
        both = History(self.folder)
        if self._own and not self._is_empty():
            both._beside = tuple(other for other in self._neighbours() if self._held(other, saga))
        return both

    def revisions(self, since: str | None = None) -> list[Revision]:
        """The commits that changed the folder, the newest first, back to `since` and that one with them.

        Refuses a shallow clone, whose past is cut off.
        """
        if self._git("rev-parse", "--is-shallow-repository").strip() == b"true":
            raise DefinitionError(
                f"{self.folder} is in a shallow clone, which does not know what was committed before; "
                f"run: git fetch --unshallow (in CI, check out with full depth)"
            )
        if self._is_empty():
            return []
        paths = ("--", ".", *(_files(other) for other in self._beside))
        if since is None:
            return self._log("--full-history", "HEAD", *paths)
        first = self._commit(since)
        return [*self._log("--full-history", f"{first}..HEAD", *paths), *self._log("--max-count=1", first)]

    def schemas(self, revision: str) -> list[Schema]:
        """The schemas of the folder at a revision (anything git understands); files that are no JSON are left out."""
        return self._schemas(self._commit(revision), self._own)

    def states(self, revision: str) -> Iterator[list[Schema]]:
        """The same of the folder, then of each beside it; a folder that was not there had none."""
        commit = self._commit(revision)
        return (self._schemas(commit, prefix) for prefix in (self._own, *self._beside))

    def saga(self, revision: str) -> Saga:
        """The saga as it was; raises DefinitionError if there was none."""
        try:
            return Saga.of(*self.schemas(revision))
        except DefinitionError as error:
            raise DefinitionError(f"{self.folder} at {revision}: {error}") from error

    def _log(self, *arguments: str) -> list[Revision]:
        told = self._git("log", f"--format=%H{_SEPARATOR}%cs{_SEPARATOR}%s", *arguments).decode()
        return [Revision(*line.split(_SEPARATOR, 2)) for line in told.splitlines()]

    def _commit(self, revision: str) -> str:
        return self._git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().strip()

    def _is_empty(self) -> bool:
        return not self._git("rev-list", "--max-count=1", "--all")

    def _neighbours(self) -> list[str]:
        """Where contracts were ever committed in the folder above and in those that are in it, ours apart."""
        above = self._own.rstrip("/").rpartition("/")[0]
        above = above and f"{above}/"
        depths = (_files(above), _files(above, "*/"))
        named = self._git("log", "-z", "--full-history", "--format=", "--name-only", "HEAD", "--", *depths).decode()
        folders = {name.rpartition("/")[0] for name in named.split("\0") if name.endswith(".avsc")}
        return sorted({folder and f"{folder}/" for folder in folders} - {self._own})

    def _held(self, prefix: str, saga: str) -> bool:
        """Whether the folder holds a saga of this name, or did before it was emptied."""
        last = self._log("--max-count=1", "--diff-filter=AM", "--no-renames", "HEAD", "--", _files(prefix))
        schemas = self._schemas(last[0].commit, prefix) if last else []
        own = (schema.get("saga") for schema in schemas)
        return any(isinstance(attributes, dict) and attributes.get("name") == saga for attributes in own)

    def _schemas(self, commit: str, prefix: str) -> list[Schema]:
        names = self._git("ls-tree", "-z", "--name-only", "--full-tree", commit, *filter(None, [prefix])).decode().split("\0")
        return [*self._parsed(commit, sorted(name for name in names if name.endswith(".avsc")))]

    def _parsed(self, commit: str, names: list[str]) -> Iterator[Schema]:
        for name in names:
            try:
                schema = orjson.loads(self._git("cat-file", "blob", f"{commit}:{name}"))
                full_name(schema, "")
            except (orjson.JSONDecodeError, KeyError, TypeError):
                continue  # a version that nobody could read was never a contract
            yield schema

    def _git(self, *arguments: str) -> bytes:
        try:
            done = subprocess.run(  # noqa: S603 - no shell, and revisions come after --end-of-options
                ["git", "-C", str(self.folder), *arguments],  # noqa: S607 - the git of whoever asks
                capture_output=True,
                timeout=SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise DefinitionError(
                "git is not installed, and the past of the contracts is asked of it; install it, "
                "or ask the registry: saga schemas plan DIR"
            ) from error
        if done.returncode == 0:
            return done.stdout
        said = " ".join(done.stderr.decode(errors="replace").split())
        if "not a git repository" in said:
            raise DefinitionError(
                f"{self.folder} is in no git work tree, so nothing is known of earlier versions; commit the contracts to git, "
                f"or ask the registry: saga schemas plan DIR"
            )
        raise DefinitionError(
            f"git {' '.join(arguments[:2])} in {self.folder} failed: {said}. Correct the revision or the folder."
        )


def _files(prefix: str, below: str = "") -> str:
    """What git calls the contract files of a folder of the repository, none of those in folders of it."""
    escaped = re.sub(r"([*?[\\])", r"\\\1", prefix)
    return f":(top,glob){escaped}{below}*.avsc"
