"""The programs that the servers and foreign judges need: found on this machine, or installed by apt when we are root."""

from __future__ import annotations

import fcntl
import functools
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from servers.errors import ServerFailed, ServerMissing
from servers.process import run

Report = Callable[[str], None]

JAVA_VERSION = 17
# What lives for seconds would compile for a long life, on all cores, and take longer for it.
SHORT_LIVED = "-XX:TieredStopAtLevel=1"
_APT = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq"]


def java(report: Report) -> Path:
    """A Java runtime new enough for the servers; raises ServerMissing."""
    packages = ("openjdk-17-jre-headless", "openjdk-21-jre-headless", "openjdk-25-jre-headless")  # one per Debian release
    return _found(f"Java {JAVA_VERSION} or newer", _find_java, packages, report)


def maven(report: Report) -> Path:
    """Maven's command; raises ServerMissing."""
    return _found("Maven", lambda: _on_path("mvn"), ("maven",), report)


def postgres(report: Report) -> Path:
    """The folder with `initdb` and `postgres`; raises ServerMissing."""
    return _found("the PostgreSQL server", _find_postgres, ("postgresql",), report)


def npm(report: Report) -> Path:
    """Node's package manager, with Node beside it; raises ServerMissing."""
    return _found("npm with Node", _find_npm, ("npm",), report, otherwise="")


def chromium(report: Report) -> Path:
    """A browser that Chromium's protocol drives; raises ServerMissing."""
    return _found("Chromium", _find_chromium, ("chromium",), report, otherwise="")


def promtool(report: Report) -> Path:
    """Prometheus's judge of rules; raises ServerMissing.

    Out of its package, which is not installed: that would start a server.
    """
    if (path := _on_path("promtool")) is not None:
        return path
    folder = cache() / "prometheus"
    path = folder / "usr" / "bin" / "promtool"
    with one_at_a_time("apt"):
        if not path.exists():
            if os.geteuid() != 0 or not _on_path("apt-get"):
                raise ServerMissing("promtool is not here. Install it (on Debian: apt-get install prometheus)")
            report("fetching promtool by apt")
            folder.mkdir(exist_ok=True)
            run("apt-get update", [*_APT, "update"], cwd=folder)
            run("fetching prometheus", [*_APT, "download", "prometheus"], cwd=folder)
            run("unpacking prometheus", ["dpkg-deb", "-x", *map(str, folder.glob("*.deb")), str(folder)], cwd=folder)
    return path


def unprivileged() -> pwd.struct_passwd | None:
    """The user as whom to run what refuses root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return pwd.getpwnam("postgres" if "postgres" in names else "nobody")


@functools.cache
def docker_answers() -> bool:
    """Whether a Docker engine answers; the command alone says nothing."""
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=10).returncode == 0  # noqa: S607
    except (OSError, subprocess.TimeoutExpired):
        return False


def cache() -> Path:
    """The user's folder for what is fetched once and kept."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saga-servers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Hold the lock `name` among all processes of this user; it falls when its holder dies."""
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _found(
    what: str, find: Callable[[], Path | None], packages: Sequence[str], report: Report, *, otherwise: str = ", or start Docker"
) -> Path:
    if (path := find()) is not None:
        return path
    if os.geteuid() == 0 and _on_path("apt-get"):
        with one_at_a_time("apt"):
            if find() is None:
                report(f"installing {what} by apt")
                _install(what, packages)
        if (path := find()) is not None:
            return path
    raise ServerMissing(f"{what} is not here. Install it (on Debian: apt-get install {packages[0]}){otherwise}")


def _install(what: str, packages: Sequence[str]) -> None:
    install = ["env", "DEBIAN_FRONTEND=noninteractive", *_APT, "install", "--no-install-recommends", "-y"]
    refusals = []
    run("apt-get update", [*_APT, "update"], cwd=cache())
    for package in packages:
        try:
            run(f"installing {package}", [*install, package], cwd=cache())
        except ServerFailed as refusal:
            refusals.append(str(refusal))
        else:
            return
    raise ServerMissing(f"{what} is not on this machine and apt does not install it:\n" + "\n".join(refusals))


def _on_path(name: str) -> Path | None:
    return Path(found) if (found := shutil.which(name)) else None


def _find_npm() -> Path | None:
    return _on_path("npm") if _on_path("node") else None


def _find_chromium() -> Path | None:
    return next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := _on_path(name))), None)


def _find_java() -> Path | None:
    home = os.environ.get("JAVA_HOME")
    chosen = [Path(home, "bin", "java")] if home else []
    on_path = [found] if (found := _on_path("java")) else []
    for path in (*chosen, *on_path, *sorted(Path("/usr/lib/jvm").glob("*/bin/java"))):
        if path.exists() and _java_version(path) >= JAVA_VERSION:
            return path
    return None


@functools.cache
def _java_version(path: Path) -> int:
    told = subprocess.run([path, "-version"], capture_output=True, text=True).stderr  # noqa: S603
    found = re.search(r'version "(\d+)', told)
    return int(found.group(1)) if found else 0


def _find_postgres() -> Path | None:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    on_path = _on_path("postgres")
    for path in (*versions, *([on_path.resolve().parent] if on_path else [])):
        if all((path / program).exists() for program in ("initdb", "postgres")):
            return path
    return None
