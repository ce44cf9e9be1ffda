"""A folder is made like another, within a cluster and between two."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from flamecrest.server.errors import Invalid, NotFound
from flamecrest.server.transfer.trees.sync import overlap

pytestmark = pytest.mark.anyio


def tree(root: Path) -> dict[str, tuple[str, int, int, bytes]]:
    """What is in a folder: type, mode, time and content, by path."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(folder, name)
            attributes = path.lstat()
            link, is_file = path.is_symlink(), stat.S_ISREG(attributes.st_mode)
            content = os.fsencode(path.readlink()) if link else path.read_bytes() if is_file else b""
            kind = "link" if link else "file" if is_file else "folder"
            when = 0 if link else attributes.st_mtime_ns // 1_000_000
            mode = 0 if link else stat.S_IMODE(attributes.st_mode)
            found[os.path.relpath(path, root)] = kind, mode, when, content
    return found


async def test_everything_arrives_and_nothing_moves_twice(folders, write):
    write(folders.source / "a" / "b" / "file", b"x" * 3_000_000, 1_500_000_000.123456).chmod(0o640)
    write(folders.source / "a.txt", b"")
    write(folders.source / "a" / os.fsdecode(b"it's \xff\n\t\\"), b"odd")
    (folders.source / "empty").mkdir(mode=0o750)
    (folders.source / "link").symlink_to("a/nowhere")
    (folders.source / "to folder").symlink_to("a")
    report = await folders.sync()
    assert not report.errors
    assert tree(folders.target) == tree(folders.source)
    assert (report.files, report.folders, report.done) == (5, 3, 3_000_003)
    again = await folders.sync()
    assert (again.files, again.folders, again.changed, again.total) == (0, 0, 0, 0)
    assert again.compared


async def test_only_what_differs_is_written(folders, write):
    for name in ("same", "larger", "newer"):
        write(folders.source / name)
        write(folders.target / name)
    write(folders.source / "larger", b"content and more")
    write(folders.source / "newer", b"changed", 1_600_000_000)
    before = (folders.target / "same").stat().st_ino
    report = await folders.sync()
    assert (report.files, report.done) == (2, 23)
    assert (folders.target / "same").stat().st_ino == before
    assert (folders.target / "newer").read_bytes() == b"changed"


async def test_a_checksum_finds_what_size_and_time_do_not(folders, write):
    write(folders.source / "one", b"aaa")
    write(folders.target / "one", b"bbb")
    write(folders.source / "two", b"same", 1_600_000_000)
    write(folders.target / "two", b"same")
    assert await folders.plan() == [("f", "two")]
    assert await folders.plan(checksum=True) == [("f", "one"), ("m", "two")]
    report = await folders.sync(checksum=True)
    assert (report.files, report.changed) == (1, 1)
    assert (folders.target / "one").read_bytes() == b"aaa"
    assert (folders.target / "two").stat().st_mtime == 1_600_000_000


async def test_what_the_source_lacks_stays_unless_it_is_to_be_deleted(folders, write):
    outside = write(folders.source.parent / "outside" / "file")
    write(folders.source / "a")
    write(folders.target / "b" / "c" / "d")
    (folders.target / "b" / "link").symlink_to(outside.parent)
    await folders.sync()
    assert (folders.target / "b" / "c" / "d").exists()
    report = await folders.sync(delete=True)
    assert report.deleted == 1
    assert set(tree(folders.target)) == {"a"}
    assert outside.exists()


async def test_patterns(folders, write):
    for name in ("a.o", "a.c", "sub/a.o", "sub/b.c", "cache/x.c", "sub/cache/y"):
        write(folders.source / name)
    write(folders.target / "old" / "kept.o")
    write(folders.target / "old" / "gone.c")
    await folders.sync(exclude=["*.o", "/cache/"], delete=True)
    assert {name for name, one in tree(folders.target).items() if one[0] == "file"} == {
        "a.c", "sub/b.c", "sub/cache/y", "old/kept.o",
    }  # fmt: skip
    await folders.sync(include=["sub/**"], exclude=["*.c"])
    assert "sub/a.o" in tree(folders.target)
    assert "a.o" not in tree(folders.target)


async def test_types_that_differ(folders, write):
    write(folders.source / "file")
    write(folders.target / "file" / "inside")
    write(folders.source / "folder" / "inside")
    (folders.target / "elsewhere").mkdir()
    (folders.target / "folder").symlink_to("elsewhere")
    report = await folders.sync()
    assert report.errors == ["file: a folder is in the way: it is replaced only with `delete`"]
    assert not (folders.target / "folder").is_symlink()
    assert not list((folders.target / "elsewhere").iterdir())
    assert not (await folders.sync(delete=True)).errors
    assert tree(folders.target) == tree(folders.source)


async def test_what_cannot_be_read_is_reported_and_not_deleted(folders, write):
    write(folders.source / "readable")
    os.mkfifo(folders.source / "pipe")
    write(folders.target / "pipe")
    report = await folders.sync(delete=True)
    assert report.skipped == 1
    assert (folders.target / "pipe").exists()
    with pytest.raises(NotFound, match="No such file or directory"):
        folders.source = folders.source / "missing"
        await folders.sync(delete=True)
    assert (folders.target / "readable").exists()


@pytest.mark.parametrize(("source", "target"), [(".", "folder"), ("folder", "."), ("folder", "folder")])
async def test_a_folder_is_not_made_like_one_that_contains_it_by_another_name(folders, write, source, target):
    """Paths of a folder that is mounted twice do not show it."""
    kept = write(folders.source / "folder" / "kept")
    folders.source, folders.target = folders.source / source, folders.source / target
    with pytest.raises(Invalid, match="contains the other"):
        await folders.sync(delete=True)
    assert kept.exists()


def test_folders_of_two_clusters_are_the_same_by_inode_and_time() -> None:
    assert overlap(b"1:2:3 1:4:5", b"9:8:1 9:4:2 7:2:3", same_cluster=False)
    assert not overlap(b"1:2:3 1:4:5", b"1:8:1 1:4:5 1:2:4", same_cluster=False)  # they have a folder in common
    assert overlap(b"1:2:3 1:4:5", b"1:8:1 1:4:5 1:2:4", same_cluster=True)
    assert not overlap(b"", b"1:2:3", same_cluster=True)


async def test_a_new_target_is_made_and_temporary_files_are_left_alone(folders, write):
    folders.target = folders.target / "new"
    write(folders.source / ".flamecrest-upload-0123456789abcdef")
    write(folders.source / "a")
    assert not (await folders.sync()).errors
    assert set(tree(folders.target)) == {"a"}
    old = write(folders.target / ".flamecrest-upload-0123456789abcdef")
    new = write(folders.target / ".flamecrest-upload-0123456789abcdee")
    os.utime(new)
    await folders.sync(delete=True)
    assert (old.exists(), new.exists()) == (False, True)
