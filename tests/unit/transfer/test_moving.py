"""The script of moves: a rename where that is possible, else a copy beside the target that appears whole."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flamecrest.server.files.remote.commands.moving import move_script

SHARED_MEMORY = Path("/dev/shm")
NAMES = ["plain", "-rf", "it's $(id) `id` * \\", "two\nlines\n", "\udcff é"]


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than tmp_path."""
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system only")
    folder = Path(tempfile.mkdtemp(prefix="flamecrest-", dir=SHARED_MEMORY))
    yield folder
    shutil.rmtree(folder)


def move(source: Path | str, target: Path | str, user: int | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        move_script(str(source), str(target)).argv,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        user=user,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def grow(top: Path) -> Path:
    """A tree with all kinds of entries, and a folder that may not be changed."""
    (top / "closed").mkdir(parents=True)
    (top / "file").write_text("content")
    (top / "file").chmod(0o640)
    os.utime(top / "file", (1_000_000_000, 1_000_000_000))
    os.link(top / "file", top / "second")
    (top / "link").symlink_to("file")
    (top / "closed" / "inner").write_text("inner")
    (top / "closed").chmod(0o555)
    return top


def content(top: Path) -> list[tuple[object, ...]]:
    """The shape without times: the folder in which a move is tried gets a new one."""
    return [(name, mode, data) for name, mode, _, data in shape(top)]


def shape(top: Path) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for path in sorted([top, *top.rglob("*")]):
        info = path.lstat()
        kind = stat.S_IFMT(info.st_mode)
        data = path.read_bytes() if kind == stat.S_IFREG else kind == stat.S_IFLNK and path.readlink()
        found.append((str(path.relative_to(top)), info.st_mode, int(info.st_mtime), data))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_move_to_another_file_system(tmp_path: Path, far: Path, name: str) -> None:
    source, target = grow(tmp_path / name), far / f"new {name}"
    before = shape(source)
    done = move(source, target)
    assert (done.returncode, done.stderr) == (0, "")
    assert shape(target) == before
    assert (target / "file").stat().st_ino == (target / "second").stat().st_ino
    assert names(tmp_path) == []
    assert names(far) == [target.name]


def test_move_into_a_folder_and_onto_a_file(tmp_path: Path, far: Path) -> None:
    (tmp_path / "a").write_text("new")
    (far / "folder").mkdir()
    (far / "folder" / "a").write_text("old")
    (far / "link").symlink_to("folder")
    assert move(tmp_path / "a", far / "link").returncode == 0
    assert (far / "folder" / "a").read_text() == "new"
    (tmp_path / "dangling").symlink_to("nowhere")
    assert move(tmp_path / "dangling", f"{far}/folder/a").returncode == 0
    assert (far / "folder" / "a").readlink() == Path("nowhere")
    assert names(tmp_path) == []
    assert names(far / "folder") == ["a"]


def test_folder_takes_the_place_of_an_empty_one(tmp_path: Path, far: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").touch()
    (far / "into" / "tree").mkdir(parents=True)
    assert move(tmp_path / "tree", far / "into").returncode == 0
    assert names(far / "into" / "tree") == ["file"]
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("tree", "full", "Directory not empty"),
        ("tree", "file", "Not a directory"),
        ("file", "into", "Is a directory"),
        ("none", "new", "No such file or directory"),
        ("tree", "none/new", "No such file or directory"),
        ("file/", "new", "Not a directory"),
        (".", "new", "busy"),
    ],
)
def test_refusals(tmp_path: Path, far: Path, source: str, target: str, reason: str) -> None:
    for folder in (tmp_path / "tree", far / "full" / "tree" / "kept", far / "into" / "file"):
        folder.mkdir(parents=True)
    for file in (tmp_path / "file", tmp_path / "tree" / "inner", far / "file"):
        file.write_text("kept")
    before = content(tmp_path), content(far)
    done = move(f"{tmp_path}/{source}", f"{far}/{target}")
    assert done.returncode == 1
    assert reason in done.stderr
    assert (content(tmp_path), content(far)) == before


def test_source_that_may_not_be_removed_is_not_copied(home: Path, far: Path, ordinary: int | None) -> None:
    (home / "data").mkdir()
    (home / "data" / "file").write_text("kept")
    (home / "data").chmod(0o555)
    far.chmod(0o777)
    done = move(home / "data" / "file", far / "new", ordinary)
    assert (done.returncode, done.stderr.rpartition(": ")[2]) == (1, "Permission denied\n")
    assert names(far) == []


@pytest.mark.live
def test_move_to_a_bind_mount(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    for folder in ("from", "real", "to"):
        (tmp_path / folder).mkdir()
    before = shape(grow(tmp_path / "from" / "tree"))
    subprocess.run(["mount", "--bind", tmp_path / "real", tmp_path / "to"], check=True)
    try:
        done = move(tmp_path / "from" / "tree", tmp_path / "to")
        assert (done.returncode, done.stderr) == (0, "")
        assert shape(tmp_path / "to" / "tree") == before
        assert names(tmp_path / "from") == []
        assert names(tmp_path / "to") == ["tree"]
    finally:
        subprocess.run(["umount", tmp_path / "to"], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_move_on_one_file_system_is_a_rename(tmp_path: Path, name: str) -> None:
    for folder in ("from", "to"):
        (tmp_path / folder).mkdir()
    number = grow(tmp_path / "from" / name).stat().st_ino
    assert move(tmp_path / "from" / name, f"{tmp_path}/to/new/").returncode == 0
    assert (tmp_path / "to" / "new").stat().st_ino == number
    assert names(tmp_path / "from") == []
    assert names(tmp_path / "to") == ["new"]
    assert move(tmp_path / "to" / "new", tmp_path / "to" / "other").returncode == 0
    assert (tmp_path / "to" / "other").stat().st_ino == number


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_move_that_is_killed(tmp_path: Path, far: Path, number: int) -> None:
    tree, target = tmp_path / "tree", far / "new"
    tree.mkdir()
    for name in range(1000):
        (tree / str(name)).touch()
    process = subprocess.Popen(
        move_script(str(tree), str(target)).argv,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + 20
    while not list(far.glob(".f7t_copy_*/new/1*")) and process.poll() is None:
        assert time.monotonic() < end
    with suppress(ProcessLookupError):  # a slow machine sees only the end
        os.killpg(process.pid, number)
    process.wait(20)
    while list(far.glob(".f7t_*")):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert len(names(target)) == 1000 if target.exists() else len(names(tree)) == 1000
