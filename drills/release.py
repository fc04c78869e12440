"""What the services of a drill run: a copy of their code and of their contracts, which may be spoiled and mended."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from demo.books import ROOT


class Release:
    """The copy, in the folder `root`. Every step may take the time `timeout`, every workflow the time `deadline`, ISO 8601."""

    def __init__(self, root: Path, *, timeout: str, deadline: str) -> None:
        self.root, self.contracts = root, root / "schemas" / "checkout"
        for folder in ("services", "schemas"):
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
        self._give_time(self.contracts / "Checkout.avsc", timeout, deadline)

    def replace(self, file: str, before: str, after: str) -> None:
        """Change the code of a service; it does so from its next start."""
        path = self.root / "services" / file
        code = path.read_text()
        if before not in code:
            raise LookupError(f"{path} has no {before!r} any more; correct the drill that changes it")
        path.write_text(code.replace(before, after))

    def _give_time(self, file: Path, timeout: str, deadline: str) -> None:
        saga = json.loads(file.read_text())
        saga["saga"]["deadline"] = deadline
        for field in saga["fields"]:
            if "timeout" in field["step"]:
                field["step"]["timeout"] = timeout
        file.write_text(json.dumps(saga, indent=1))
