"""The path rule."""

from __future__ import annotations

import pytest

from flamecrest.server.errors import Invalid
from flamecrest.server.files.paths import NAME_MAX, PATH_MAX, check_path, check_removable, within

ROOTS = ["/home", "/home/scratch", "/store"]


@pytest.mark.parametrize(
    ("path", "file_system"),
    [
        ("/home", "/home"),
        ("/home/", "/home"),
        ("/home/ann/x", "/home"),
        ("/home/scratchy", "/home"),
        ("/home/scratch", "/home/scratch"),
        ("/home/scratch/ann", "/home/scratch"),
        ("/home/scratch/../ann", "/home"),
        ("/home/ann/../scratch/x", "/home/scratch"),
        ("//store/x", "/store"),
        ("/home/../store/./x", "/store"),
        ("/store/" + "n" * NAME_MAX, "/store"),
    ],
)
def test_path_belongs_to_the_longest_root_that_contains_it(path: str, file_system: str) -> None:
    assert check_path(path, ROOTS) == file_system


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "absolute"),
        ("home/x", "absolute"),
        ("/", "outside"),
        ("/homes", "outside"),
        ("/home/../etc", "outside"),
        ("/home/x\0y", "NUL"),
        ("/home/\ud800", "surrogate"),
        ("/home/" + "n" * (NAME_MAX + 1), "too long"),
        ("/home/" + "é" * 128, "too long"),
        ("/home" + "/n" * (PATH_MAX // 2), "too long"),
    ],
)
def test_path_is_refused(path: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        check_path(path, ROOTS)


def test_no_path_is_allowed_without_file_systems() -> None:
    with pytest.raises(Invalid, match="none is configured"):
        check_path("/x", [])


def test_error_names_the_parameter() -> None:
    with pytest.raises(Invalid, match="`targetPath` is outside"):
        check_path("/x", ROOTS, "targetPath")


@pytest.mark.parametrize(("path", "root", "expected"), [("/a", "/", True), ("/a/b", "/a", True), ("/ab", "/a", False)])
def test_within(path: str, root: str, expected: bool) -> None:
    assert within(path, root) is expected


@pytest.mark.parametrize("path", ["/home", "/home/", "//home/.", "/home/x/..", "/", "/./", "/scratch"])
def test_a_whole_file_system_is_not_removable(path: str) -> None:
    with pytest.raises(Invalid, match="whole file system"):
        check_removable(path, ["/home", "/scratch"])


@pytest.mark.parametrize("path", ["/home/x", "/home/..x", "/homes", "/data"])
def test_a_path_below_a_file_system_is_removable(path: str) -> None:
    check_removable(path, ["/home", "/scratch"])
