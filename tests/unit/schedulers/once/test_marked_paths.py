"""Markers in paths of jobs, which mean the same without them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from flamecrest.server.schedulers.once.marked_paths import (
    marked_folder,
    marker_in,
    null_path,
    tag_in,
    tagged_folder,
    without_marker,
)
from flamecrest.server.schedulers.slurm.jobs import SQUEUE_DETAILS, parse_squeue
from tests.unit.schedulers.recorded import SEP, VERSIONS, output

MARKER = "flamecrest-aaaaaaaaaaaaaaaaaaaa-abcdef72"


def test_a_path_without_a_marker_is_none_of_ours() -> None:
    path = null_path(MARKER)
    assert path is not None
    assert without_marker(path) == "/dev/null"
    for other in (
        "/dev/null",
        "/dev//.//./null",
        path.replace("/", "/x"),
        "/." * 14 + "x",
        "",
    ):
        assert (marker_in(other), without_marker(other)) == (None, other)
    assert null_path("flamecrest-x") is None


@pytest.mark.parametrize(
    "folder", ["/home/ada", "/", "/home/ada/", "/home/ada/.", "//home//ä/.//", "/a/..", "/x" * 1500]
)
def test_a_marker_in_the_path_of_a_folder(folder: str, tmp_path: Path) -> None:
    path = marked_folder(folder, MARKER)
    assert path is not None
    assert marker_in(path) == MARKER
    plain = without_marker(path)
    assert PurePosixPath(plain) == PurePosixPath(folder)
    assert not path.endswith("/")
    for file in ("/slurm-1.out", "/a/b", "/.hidden"):
        assert without_marker(path + file) == plain.rstrip("/") + file
    here = tmp_path / "folder"
    here.mkdir()
    assert Path(marked_folder(str(here), MARKER) or "").samefile(here)


@pytest.mark.parametrize("folder", ["/home/ada", "/", "/home/ada/", "/home/ada/.", "/a//./.b/", "/x" * 2030])
def test_the_beginning_of_a_marker_in_the_path_of_a_folder(folder: str) -> None:
    for marker in (MARKER, MARKER.replace("-aaa", "-777")):
        path = tagged_folder(folder, marker)
        assert tag_in(path) == marker[: len("flamecrest-aaa")]
        assert len(path) <= len(folder) + 32
        assert marker_in(path) is None
        assert PurePosixPath(without_marker(path)) == PurePosixPath(folder)
        assert without_marker(f"{path}/a.out") == without_marker(path).rstrip("/") + "/a.out"
    for other in (
        folder,
        f"{folder}/",
        f"{folder}/.",
        folder + "/" * 15,
        path + "/",
        f"{path}/a",
        marked_folder("/", MARKER),
    ):
        assert tag_in(other or "") is None
    assert tagged_folder(folder, "flamecrest-x") == folder


@pytest.mark.parametrize("version", VERSIONS)
def test_files_in_a_folder_with_a_marker(version: str) -> None:
    """As Slurm's commands show jobs of slurmrestd."""
    folder, queue = marked_folder("/home/fireuser", MARKER), output("files-queue", version).text()
    assert folder is not None
    plain, marked = (
        parse_squeue(text, SEP, SQUEUE_DETAILS) for text in (queue, queue.replace("/home/fireuser", folder))
    )
    assert [one.job for one in plain.records] == [one.job for one in marked.records]


def test_a_folder_whose_path_has_no_room_for_a_marker() -> None:
    assert marked_folder("/x" * 2000, MARKER) is None
    assert marked_folder("/home", "flamecrest-x") is None
