"""Java archives at pinned versions, fetched by Maven once and kept in the user's cache.

A folder of the cache is whole or absent: it is filled under another name, by one process at a time, and then renamed.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement

from servers.process import run
from servers.programs import Report, cache, maven, one_at_a_time

_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin"
_MODEL = "http://maven.apache.org/POM/4.0.0"


def jars(name: str, artifacts: tuple[str, ...], report: Report) -> Path:
    """The folder of jars of `artifacts` ("group:artifact:version") and all they need; raises ServerMissing or ServerFailed."""

    def fill(folder: Path) -> None:
        pom = folder / "pom.xml"
        _project(artifacts).write(pom, encoding="utf-8", xml_declaration=True)
        _maven(f"{_PLUGIN}:3.8.1:copy-dependencies", folder, report, "-f", str(pom), "-DincludeScope=runtime")

    return cached(name, artifacts, fill, report)


def archive(name: str, artifact: str, report: Report) -> Path:
    """The unpacked folder of one archive ("group:artifact:version:tar.gz:classifier"); raises ServerMissing or ServerFailed."""

    def fill(folder: Path) -> None:
        # The later plugins resolve the project description first, and with it parents that the archive does not need.
        _maven(f"{_PLUGIN}:2.10:copy", folder, report, f"-Dartifact={artifact}")
        for packed in folder.glob("*.tar.gz"):
            with tarfile.open(packed) as tar:
                tar.extractall(folder, filter="data")
            packed.unlink()

    return cached(name, (artifact,), fill, report)


def cached(name: str, contents: tuple[str, ...], fill: Callable[[Path], None], report: Report) -> Path:
    """The cache's folder for `contents`, made by `fill` if it is not there: whole, once, whoever else asks or was killed."""
    folder = cache() / f"{name}-{hashlib.sha256(repr(contents).encode()).hexdigest()[:8]}"
    if folder.is_dir():
        return folder
    with one_at_a_time("maven"):  # one for all folders: Maven's own repository bears one process at a time
        if not folder.is_dir():
            report(f"making {name} ready, once")
            unfinished = folder.with_name(f"{folder.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            fill(unfinished)
            unfinished.rename(folder)
    return folder


def _maven(goal: str, folder: Path, report: Report, *options: str) -> None:
    quietly = ["--batch-mode", "--quiet", "--update-snapshots"]  # the last makes it ask again for what once was not there
    run("Maven", [str(maven(report)), *quietly, goal, f"-DoutputDirectory={folder}", *options], cwd=folder)


def _project(artifacts: tuple[str, ...]) -> ElementTree[Element]:
    project = Element("project", xmlns=_MODEL)
    own = {"modelVersion": "4.0.0", "groupId": "saga", "artifactId": "servers", "version": "1", "packaging": "pom"}
    for tag, text in own.items():
        SubElement(project, tag).text = text
    dependencies = SubElement(project, "dependencies")
    for artifact in artifacts:
        dependency = SubElement(dependencies, "dependency")
        for tag, text in zip(("groupId", "artifactId", "version"), artifact.split(":"), strict=True):
            SubElement(dependency, tag).text = text
    return ElementTree(project)
