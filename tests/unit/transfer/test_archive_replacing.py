"""Archives and unpacked files are made beside their targets and renamed; temporary files are not packed, and swept."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from flamecrest.server.errors import Invalid, Upstream
from flamecrest.server.files.remote.commands.archive import compress, extract, finished
from flamecrest.server.files.values import CompressOptions
from flamecrest.server.ssh.command import Output

from .names import inside
from .test_archive import members, run


def test_failed_unpacking_leaves_the_old_files(source: Path, tmp_path: Path) -> None:
    (source / "big").write_bytes(os.urandom(300_000))
    target = tmp_path / "out" / "a.tar"
    run(compress(str(source), str(target), CompressOptions(compression="none")))
    os.truncate(target, 200_000)
    there = tmp_path / "there" / "data"
    there.mkdir(parents=True)
    for name in ("a.txt", "big"):
        (there / name).write_text("old")
    with pytest.raises(Invalid):
        run(extract(str(target), str(tmp_path / "there"), compression="none"))
    assert inside(tmp_path / "there") == ["data"]
    assert inside(there) == ["a.txt", "big"]
    assert {(there / name).read_text() for name in ("a.txt", "big")} == {"old"}


def test_unpacking_goes_through_no_link(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.tar"
    run(compress(str(source), str(target), CompressOptions(compression="none")))
    (tmp_path / "real").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "data").symlink_to("../real")
    with pytest.raises(Invalid, match="Not a directory"):
        run(extract(str(target), str(tmp_path / "there"), compression="none"))
    assert inside(tmp_path / "real") == []
    assert inside(tmp_path / "there") == ["data"]


def test_folders_that_exist_keep_their_modes(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.tar"
    source.chmod(0o755)
    run(compress(str(source), str(target), CompressOptions(compression="none")))
    (tmp_path / "there" / "data").mkdir(parents=True)
    (tmp_path / "there" / "data").chmod(0o700)
    run(extract(str(target), str(tmp_path / "there"), compression="none"))
    assert stat.S_IMODE((tmp_path / "there" / "data").stat().st_mode) == 0o700
    assert (tmp_path / "there" / "data" / "a.txt").read_text() == "a"


def test_full_disk_is_an_error_of_the_cluster() -> None:
    for line in (
        b"tar: data/big: Wrote only 4096 of 10240 bytes\n",
        b"File size limit exceeded\n",
        b"tar: x: Cannot write: No space left on device\n",
    ):
        with pytest.raises(Upstream):
            finished(Output(2, b"", line + b"tar: Exiting with failure status due to previous errors\n"))


def test_holes_are_kept(source: Path, tmp_path: Path) -> None:
    with (source / "sparse").open("wb") as file:
        file.seek(64 << 20)
        file.write(b"end")
    os.truncate(source / "sparse", 1 << 30)
    with (source / "empty").open("wb") as file:
        os.truncate(file.fileno(), 16 << 20)
    target = tmp_path / "out" / "a.tar"
    run(compress(str(source), str(target), CompressOptions(compression="none")))
    assert target.stat().st_size < 1 << 20
    run(extract(str(target), str(tmp_path / "new"), compression="none"))
    found = (tmp_path / "new" / "data" / "sparse").stat()
    assert (found.st_size, found.st_blocks < 1 << 11) == (1 << 30, True)
    with (tmp_path / "new" / "data" / "sparse").open("rb") as file:
        file.seek(64 << 20)
        assert file.read(4) == b"end\0"


def test_temporary_files_are_not_packed_and_old_ones_are_removed(source: Path, tmp_path: Path) -> None:
    ours = [
        ".flamecrest-upload-0123456789abcdef",
        ".flamecrest-unpack-0123456789abcdef",
        ".flamecrest-upload-0123456789abcdef0123456789abcdef.json",
        ".f7t_copy_aB3xY6zW9q",
    ]
    for name in (*ours, ".f7t_notes", ".flamecrest-upload-notes"):
        (source / name).write_text("x")
    target = tmp_path / "out" / "a.tar"
    run(compress(str(source), str(target), CompressOptions(compression="none")))
    assert not {f"data/{name}" for name in ours} & members(target)
    assert {"data/.f7t_notes", "data/.flamecrest-upload-notes"} <= members(target)
    left = [
        ".f7t_copy_aB3xY6zW9q",
        ".f7t_extract_0000000000",
        ".f7t_archive_aaaaaaaaaa",
        ".f7t_archive_aaaaaaaaaa.list",
    ]
    for name in (*left, ".f7t_copy_short", ".f7t_file_handling_job_x", ".f7t_copy_1111111111", ".f7t_copy_2222222222"):
        (tmp_path / "out" / name).mkdir(mode=0o700)
        (tmp_path / "out" / name / "new").mkdir()
        (tmp_path / "out" / name / "new" / "part").write_text("x")
    (tmp_path / "out" / ".f7t_copy_1111111111").chmod(0o750)
    (tmp_path / "out" / ".f7t_copy_2222222222" / "thesis").write_text("x")
    for path in (tmp_path / "out").iterdir():
        os.utime(path, (0, 0))
    run(compress(str(source), str(target), CompressOptions(compression="none")))
    until = time.monotonic() + 10
    while set(left) & set(inside(tmp_path / "out")) and time.monotonic() < until:
        time.sleep(0.01)
    assert inside(tmp_path / "out") == [
        ".f7t_copy_1111111111",
        ".f7t_copy_2222222222",
        ".f7t_copy_short",
        ".f7t_file_handling_job_x",
        "a.tar",
    ]
    assert (tmp_path / "out" / ".f7t_copy_1111111111" / "new" / "part").exists()
    assert inside(tmp_path / "out" / ".f7t_copy_2222222222") == ["new", "thesis"]


def test_an_archive_is_not_written_into_a_fifo(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "fifo"
    os.mkfifo(target)
    with pytest.raises(Invalid, match="Not a regular file"):
        run(compress(str(source), str(target)))
    assert inside(tmp_path / "out") == ["fifo"]


def test_an_archive_is_written_into_a_file_with_other_links(source: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "out" / "a.tar", tmp_path / "out" / "link"
    for old in (b"", bytes(100_000)):
        target.write_bytes(old)
        target.chmod(0o640)
        link.unlink(missing_ok=True)
        link.hardlink_to(target)
        run(compress(str(source), str(target), CompressOptions(compression="none")))
        assert members(link)
        assert (link.stat().st_nlink, stat.S_IMODE(link.stat().st_mode)) == (2, 0o640)
        assert inside(tmp_path / "out") == ["a.tar", "link"]


@pytest.mark.parametrize(("old", "new"), [(0o4755, 0o755), (0o2755, 0o755), (0o2640, 0o2640), (0o606, 0o606)])
def test_an_archive_has_the_mode_of_the_old_one_after_a_write(source: Path, tmp_path: Path, old: int, new: int) -> None:
    target = tmp_path / "out" / "a.tar"
    target.touch()
    target.chmod(old)
    ino = target.stat().st_ino
    with target.open("rb"):
        run(compress(str(source), str(target), CompressOptions(compression="none")))
        assert (stat.S_IMODE(target.stat().st_mode), target.stat().st_ino != ino) == (new, True)
