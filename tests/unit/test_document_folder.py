"""The folder that documents are written to: nothing that is not ours is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from saga.documents.folder import LIST, Written, write
from saga.errors import SagaError


def test_files_of_an_earlier_run_are_replaced_and_removed(tmp_path: Path) -> None:
    write(tmp_path / "site", {"index.html": "old", "a/b/gone.html": "old"})

    done = write(tmp_path / "site", {"index.html": "new", "a/kept.html": "new"})

    assert done == Written(("a/kept.html", "index.html"), ("a/b/gone.html",))
    assert (tmp_path / "site" / "index.html").read_text() == "new"
    assert not (tmp_path / "site" / "a" / "b").exists()


def test_a_folder_of_others_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(SagaError, match="is not empty and was not written by `saga docs`"):
        write(tmp_path, {"index.html": "new"})

    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_by_force_it_is_written_and_what_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    write(tmp_path, {"index.html": "new"}, force=True)
    write(tmp_path, {})

    assert sorted(file.name for file in tmp_path.iterdir()) == [LIST, "thesis.txt"]


def test_an_empty_folder_is_nobodys(tmp_path: Path) -> None:
    assert write(tmp_path, {"index.html": "new"}).written == ("index.html",)


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("not a folder")

    with pytest.raises(SagaError, match="is a file"):
        write(tmp_path / "site", {})


@pytest.mark.parametrize("path", ["../precious", "a/../../precious", "{folder}/precious"])
def test_a_list_that_leads_out_of_the_folder_is_not_believed(tmp_path: Path, path: str) -> None:
    (tmp_path / "precious").write_text("keep me")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / LIST).write_text(f"{path.format(folder=tmp_path)}\n")

    assert write(tmp_path / "site", {}).removed == ()
    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize("path", ["../elsewhere", "a/../../elsewhere", "/elsewhere"])
def test_a_file_that_would_lie_outside_is_refused_before_anything_is_written(tmp_path: Path, path: str) -> None:
    with pytest.raises(SagaError, match="would lie outside"):
        write(tmp_path / "site", {"index.html": "new", path: "new"})

    assert [*tmp_path.iterdir()] == []
