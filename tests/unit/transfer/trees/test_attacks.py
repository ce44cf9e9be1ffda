"""What a hostile source, or somebody else with access to a folder, may try."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flamecrest.server.errors import Upstream
from flamecrest.server.transfer.trees import program
from flamecrest.server.transfer.trees.patterns import MOST_ANY, Filter
from flamecrest.server.transfer.trees.program import Records, entry

TREE = Path(program.__file__).parent / "programs" / "tree.pl"


def applied(folder: Path, *records: str, source: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run tree.pl on a folder with these records."""
    argv = ["perl", str(TREE), "apply", str(folder), str(source or "")]
    return subprocess.run(argv, input="".join(records).encode(), capture_output=True, check=False)


@pytest.mark.parametrize("path", [b"..", b"a/../b", b"a//b", b"./a", b"a/"])
def test_a_list_cannot_lead_out_of_its_folder(path: bytes) -> None:
    with pytest.raises(Upstream, match="damaged"):
        entry(b"f 644 1 1 0 -", path, b"")


@pytest.mark.parametrize("head", [b"f", b"f 9 1 1 0 -", b"f 644 x 1 0 -", b"q 644 1 1 0 -", b"\xff"])
def test_a_list_that_is_no_list_is_refused(head: bytes) -> None:
    with pytest.raises(Upstream, match="damaged"):
        entry(head, b"a", b"")


@pytest.mark.parametrize("path", ["../outside", "..", "a/../../outside", "/outside", "."])
def test_the_program_leaves_its_folder_for_no_record(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.write_text("keep")
    for verb in ("x", "d", "l", "f", "m 700 1", "k"):
        assert applied(folder, f"{verb}\0{path}\0target\0").returncode == 3
    assert outside.read_text() == "keep"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "outside"]


def test_a_folder_that_has_become_a_link_is_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "keep").write_text("keep")
    (folder / "sub").symlink_to(outside)
    done = applied(folder, "x\0sub/keep\0\0", "d\0sub/new\0\0", "m 0 1\0sub/keep\0\0", "l\0sub/l\0x\0")
    assert done.stdout.count(b"! ") == 4
    assert sorted(one.name for one in outside.iterdir()) == ["keep"]
    assert (outside / "keep").stat().st_mode & 0o777
    assert b"+ x 0\0sub\0" in applied(folder, "x\0sub\0\0").stdout  # the link itself
    assert (outside / "keep").exists()
    assert not (folder / "sub").is_symlink()


@pytest.mark.parametrize("place", ["folder", "above/folder"])
def test_a_root_that_has_become_a_link_is_not_followed(tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "folder" / "keep").write_text("keep")
    link = tmp_path / Path(place).parts[0]
    link.symlink_to(outside if "/" in place else outside / "folder")
    done = applied(tmp_path / place, "x\0keep\0\0")
    assert done.stdout.startswith(b"! ")
    assert (outside / "folder" / "keep").exists()


def test_a_source_that_has_become_a_link_is_not_read(tmp_path: Path) -> None:
    source, target, secret = tmp_path / "source", tmp_path / "target", tmp_path / "secret"
    source.mkdir()
    target.mkdir()
    secret.write_text("secret")
    (source / "file").symlink_to(secret)
    (source / "sub").symlink_to(tmp_path)
    done = applied(target, "f\0file\0\0", "d\0sub\0\0", "f\0sub/secret\0\0", source=source)
    assert done.stdout.count(b"! ") == 2
    assert not [one for one in target.rglob("*") if one.is_file()]


def test_set_uid_is_not_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "program").write_text("x")
    (source / "program").chmod(0o6755)
    applied(target, "f\0program\0\0", source=source)
    assert (target / "program").stat().st_mode & 0o7777 == 0o755


def test_a_program_that_is_ended_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    argv = ["perl", str(TREE), "apply", str(tmp_path), ""]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"r 644 1000000\0file\0\0" + (1024).to_bytes(4) + bytes(1024))
        process.stdin.flush()
        process.stdout.read(4)  # it has begun
        process.stdin.close()
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_content_that_is_of_no_use_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    bad = b"r 644 1000000\0file\0\0" + (3).to_bytes(4) + b"new" + program.BAD.to_bytes(4) + b"d\0after\0\0"
    argv = ["perl", str(TREE), "apply", str(tmp_path), ""]
    done = subprocess.run(argv, input=bad, capture_output=True, check=True)
    assert b"\0file\0" in done.stdout
    assert sorted(one.name for one in tmp_path.iterdir()) == ["after", "file"]
    assert (tmp_path / "file").read_text() == "old"


def test_patterns_take_no_time() -> None:
    slow = "/".join(["**", "*a*a*a*a*a*a*a*b"] * MOST_ANY)
    path = "/".join(["a" * 255] * 60).encode()
    assert Filter.of([], [slow] * 12).takes(path, folder=False)


def test_patterns_with_too_many_places_are_refused() -> None:
    with pytest.raises(ValueError, match="b"):
        Filter.of([], ["/".join(["**", "b"] * (MOST_ANY + 1))])
    assert not Filter.of([], ["/".join(["**"] * 100 + ["b"])]).takes(b"a/b", folder=False)  # that is one


@pytest.mark.parametrize(
    "patterns", [["*a" * 500] * 3, ["[a-z]"] * 1001, ["*" + "a" * 250] * 33], ids=["stars", "sets", "characters"]
)
def test_patterns_that_take_long_to_parse_or_to_match_are_refused(patterns: list[str]) -> None:
    """A hundred patterns of a thousand characters took 15 seconds, in which the gateway did nothing else."""
    with pytest.raises(ValueError, match="together are possible"):
        Filter.of(patterns, [])
    assert Filter.of(patterns[:1], ["*.tmp"] * 100)


def test_the_states_of_patterns_follow_the_folders() -> None:
    chosen = Filter.of(["a/**/x", "*.c"], ["/b/y/", "**/q/*.c"])
    taken = ["a/x", "a/1/2/x", "a/1/x", "b/z.c", "c/b/y/z.c", "a/x"]
    left = ["x", "b/x", "a/1/2/3", "q/z.c", "a/q/z.c"]
    paths = [*taken, *left, *reversed(taken)]
    assert [path for path in paths if chosen.takes(path.encode(), folder=False)] == [*taken, *reversed(taken)]
    assert not chosen.takes(b"b/y", folder=True)
    assert chosen.takes(b"c/b/y", folder=True)


@pytest.mark.anyio
async def test_endless_records_are_refused() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes([1]) * 65536

    with pytest.raises(Upstream, match="unexpected"):
        await Records(endless()).record()
