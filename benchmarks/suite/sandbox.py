"""Environments of the peers, each of its own under build/, made when it is first asked for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.suite.results import stderr

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "peers"
PYTHON: Mapping[str, Sequence[str]] = {
    "dbos": ("dbos==3.4.0", "psycopg[binary]==3.3.9"),
    "faststream": ("faststream[kafka]==0.7.8", "faststream-outbox[asyncpg]==0.19.0"),
    "restate": ("restate-sdk==1.3.0", "hypercorn==0.18.0", "httpx==0.28.1", "psycopg[binary,pool]==3.3.9"),
}
NODE: Mapping[str, str] = {"@restatedev/restate-server": "1.7.12"}
PATIENCE = 600


def python(name: str) -> Path:
    """The interpreter of a peer's virtual environment."""
    home, wanted = BUILD / name, "\n".join(PYTHON[name])
    made = home / "installed.txt"
    if not made.exists() or made.read_text() != wanted:
        stderr.print(f"  installing {', '.join(PYTHON[name])}")
        shutil.rmtree(home, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(home)])
        _run([str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *PYTHON[name]])
        made.write_text(wanted)
    return home / "bin" / "python"


def restate_server() -> Path:
    """Restate's server, of the package that npm installs for this machine."""
    home = BUILD / "node"
    [(package, version)] = NODE.items()
    if not (home / "node_modules" / package).exists():
        stderr.print(f"  installing {package}@{version}")
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text('{"private": true}\n')
        _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"{package}@{version}"], cwd=home)
    found = [*home.glob(f"node_modules/{package}-*/bin/restate-server")]
    assert found, "npm installed no server of Restate for this machine"
    return found[0]


def _run(command: Sequence[str], cwd: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} failed: {(done.stderr or done.stdout).strip()[-300:]}")
