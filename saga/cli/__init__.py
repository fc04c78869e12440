"""The `saga` command. Its libraries come with an extra, so that a service that runs its own worker needs none of them."""

from __future__ import annotations

import gc
import sys
from importlib.util import find_spec

YOUNGEST = 300_000
"""New objects after which garbage is looked for: fewer are made by loading, and looking through them took a sixth of it."""


def main() -> None:
    """Entry point; exits 2 with the extra to install where typer or rich are missing."""
    if missing := [name for name in ("typer", "rich") if find_spec(name) is None]:
        sys.stderr.write(f"error: the command line needs {' and '.join(missing)}; run: pip install 'saga-choreography[cli]'\n")
        raise SystemExit(2)
    gc.set_threshold(YOUNGEST, 20, 50)
    try:
        from saga.cli.app import app

        app()
    except KeyboardInterrupt:  # of somebody who did not wait until it had begun
        raise SystemExit(130) from None
