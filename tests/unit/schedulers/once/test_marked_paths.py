"""Markers in paths of jobs, which mean the same without them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from flamecrest.server.schedulers.once.marked_paths import marked_folder, marker_in, null_path, without_marker
from flamecrest.server.schedulers.slurm.jobs import SQUEUE_DETAILS, parse_squeue
from tests.unit.schedulers.recorded import SEP, VERSIONS, output

MARKER = "flamecrest-aaaaaaaaaaaaaaaaaaaa-abcdef72"


def test_a_path_without_a_marker_is_none_of_ours() -> None:
    path = null_path(MARKER)
    assert path is not None
    assert without_marker(path) == "/dev/null"
    for other in ("/dev/null", "/dev//.//./null", path[:5] + "x" + path[5:], path.replace("/", "/x"), "/" * 139, ""):
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
