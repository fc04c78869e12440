"""Every state of a contract folder that git remembers. The only place that runs git, and it only reads."""

from __future__ import annotations

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
        self._prefix = self._git("rev-parse", "--show-prefix").decode().strip()

    def revisions(self, since: str | None = None) -> list[Revision]:
        """The commits that changed the folder, the newest first, back to `since` and that one with them.

        Refuses a shallow clone, whose past is cut off.
        """
        if self._git("rev-parse", "--is-shallow-repository").strip() == b"true":
            raise DefinitionError(
                f"{self.folder} is in a shallow clone, which does not know what was committed before; "
                f"run: git fetch --unshallow (in CI, check out with full depth)"
            )
        if not self._git("rev-list", "--max-count=1", "--all"):
            return []
        if since is None:
            return self._log("--full-history", "HEAD", "--", ".")
        first = self._commit(since)
        return [*self._log("--full-history", f"{first}..HEAD", "--", "."), *self._log("--max-count=1", first)]

    def schemas(self, revision: str) -> list[Schema]:
        """The schemas of the folder at a revision (anything git understands); files that are no JSON are left out."""
        commit = self._commit(revision)
        names = self._git("ls-tree", "-z", "--name-only", "--full-tree", f"{commit}:{self._prefix}").decode().split("\0")
        return [*self._parsed(commit, sorted(name for name in names if name.endswith(".avsc")))]

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

    def _parsed(self, commit: str, names: list[str]) -> Iterator[Schema]:
        for name in names:
            try:
                schema = orjson.loads(self._git("cat-file", "blob", f"{commit}:{self._prefix}{name}"))
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
