"""Path resolution and permissions, compared with the kernel on arbitrary trees."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flamecrest.sandbox.permissions import READ, SEARCH, WRITE, View
from flamecrest.sandbox.users import UnixUsers

NAMES = ("a", "b", "c")
part = st.sampled_from((*NAMES, ".", "..", ""))
relative = st.lists(part, min_size=1, max_size=6).map("/".join)
entries = st.dictionaries(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join),
    st.one_of(st.just("folder"), st.just("file"), relative),
    max_size=8,
)


def build(home: Path, tree: dict[str, str]) -> None:
    for name, kind in sorted(tree.items()):
        path = home / name
        try:
            if not path.parent.resolve().is_relative_to(home.resolve()):
                continue  # an earlier link leads out of the directory: create nothing there
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                path.mkdir()
            elif kind == "file":
                path.touch()
            else:
                path.symlink_to(kind or ".")
        except (OSError, RuntimeError):  # RuntimeError: resolve() in a loop of links
            continue  # another entry has this name


@settings(max_examples=50)
@given(tree=entries, path=relative, follow=st.booleans())
@example(tree={"b": "file", "a": "b/."}, path="a", follow=True)
@example(tree={"b": "file", "a": "b/"}, path="a", follow=True)
@example(tree={"b": "folder", "a": "b/.", "c": "a"}, path="c", follow=True)
def test_paths_resolve_as_in_the_kernel(tree: dict[str, str], path: str, follow: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        users = UnixUsers(Path(folder), ["ann"])
        users.make_homes()
        home = users["ann"].home
        build(home, tree)
        view = View(users, users["ann"])
        full = os.fsencode(f"{home}/{path}")
        kernel = outcome(full, follow)
        try:
            found = view.find(full, follow=follow)
        except OSError as error:
            ours: object = error.errno
        else:
            ours = outcome(found, follow)
            if follow and kernel == ours and isinstance(kernel, tuple):
                assert os.path.realpath(found) == (found.rstrip(b"/") or b"/")
        assert ours == kernel


def outcome(path: bytes, follow: bool) -> object:
    """The resolved path, or the errno."""
    try:
        found = (os.stat if follow else os.lstat)(path)
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino


@settings(max_examples=40)
@given(mode=st.integers(0, 0o777), want=st.sampled_from((READ, WRITE, SEARCH, READ | WRITE)), own=st.booleans())
def test_permissions_follow_the_mode(mode: int, want: int, own: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        users = UnixUsers(Path(folder), ["ann", "bob"])
        users.make_homes()
        path = users["ann" if own else "bob"].home / "x"
        path.touch()
        path.chmod(mode)
        view = View(users, users["ann"])
        bits = mode >> 6 if own else mode
        if want & bits & 7 == want:
            view.check(os.fsencode(path), want)
        else:
            with pytest.raises(PermissionError):
                view.check(os.fsencode(path), want)


@pytest.mark.parametrize("name", ["", "Ann", "a b", "../x", "a/b", "-x", "a\n", "x" * 33, "1a"])
def test_invalid_user_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="user name"):
        UnixUsers(tmp_path, [name])
