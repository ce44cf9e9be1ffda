"""The archive scripts, run with the real bash, tar and find."""

from __future__ import annotations

import os
import signal
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings

from flamecrest.server.errors import (
    Conflict,
    Denied,
    GatewayError,
    Invalid,
    NotFound,
    Unsupported,
    Upstream,
)
from flamecrest.server.files.remote.commands.archive import Script, compress, extract, finished
from flamecrest.server.files.values import Compression, CompressOptions
from flamecrest.server.ssh.command import Output

from .names import grow, inside, names, tree

COMPRESSIONS: list[Compression] = ["none", "gzip", "bzip2", "xz"]


def run(script: Script, *, user: int | None = None, env: dict[str, str] | None = None) -> None:
    """Run a script as a login node does and parse its output as the gateway does."""
    done = subprocess.run(
        script.argv,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
        user=user,
        cwd="/",
        env={"PATH": os.environ["PATH"], **(env or {})},
    )
    assert done.stdout == b""
    finished(Output(done.returncode, done.stdout, done.stderr))


def members(archive: Path) -> set[str]:
    with tarfile.open(archive, errors="surrogateescape") as tar:
        return set(tar.getnames())


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_round_trip(source: Path, tmp_path: Path, compression: Compression) -> None:
    target = tmp_path / "out" / "a.tar"
    run(compress(str(source), str(target), CompressOptions(compression=compression)))
    magic = {"none": b"data/", "gzip": b"\x1f\x8b", "bzip2": b"BZh", "xz": b"\xfd7zXZ"}[compression]
    assert target.read_bytes().startswith(magic)
    run(extract(str(target), str(tmp_path / "new" / "er"), compression=compression))
    assert tree(tmp_path / "new" / "er" / "data") == tree(source)
    assert inside(tmp_path / "out") == ["a.tar"]


@settings(max_examples=8)
@given(top=names, inner=names, archive=names, target=names)
@example(top="-rf", inner="--x", archive="host:file", target="a\n")
@example(top="a\nb\n", inner=r"a\tb", archive=r"\n", target=r"\\")
@example(top="*", inner="[a]", archive="*", target="?")
@example(top="$(touch pwned)", inner="\n", archive="`touch pwned`", target="\udcff")
@example(top="host:file", inner="\udcff", archive="-z", target="--to-command=touch pwned")
def test_any_name_round_trips(top: str, inner: str, archive: str, target: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name in ("in", "out", "plain", "some"):
            (root / name).mkdir()
        source = grow(root / "in", top, inner)
        run(compress(str(source), str(root / "out" / archive), CompressOptions(compression="none")))
        assert {name.split("/")[0] for name in members(root / "out" / archive)} == {top}
        run(extract(str(root / "out" / archive), str(root / "plain" / target), compression="none"))
        assert tree(root / "plain" / target / top) == tree(source)

        anything = "\\(.\\|\n\\)*"  # find's own dot stops at a line break
        pattern = rf"\./{anything}/deep/{anything}"
        run(compress(str(source), str(root / "out" / archive), CompressOptions(pattern=pattern, compression="none")))
        assert members(root / "out" / archive) == {f"{top}/deep/{inner}/{inner}"}
        assert inside(root) == ["in", "out", "plain", "some"]
        assert inside(root / "out") == [archive]
        assert not list(root.rglob("pwned"))


def test_pattern_takes_regular_files_below_the_source_only(source: Path, tmp_path: Path) -> None:
    (source / "link.txt").symlink_to("a.txt")
    target = tmp_path / "out" / "a.tgz"
    run(compress(str(source), str(target), CompressOptions(pattern=r".*\.txt")))
    assert members(target) == {"data/a.txt", "data/sub/c.txt"}


def test_firecrest_patterns(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.tgz"
    run(compress(str(source), str(target), CompressOptions(pattern=r"\./data/[ab]\..*")))
    assert members(target) == {"data/a.txt", "data/b.log"}


@pytest.mark.parametrize(
    "pattern", ["$(touch {0}/pwned)", "`touch {0}/pwned`", "' -exec touch {0}/pwned ; '", "-delete"]
)
def test_pattern_cannot_inject_options_or_commands(source: Path, tmp_path: Path, pattern: str) -> None:
    before = tree(tmp_path)
    with pytest.raises(NotFound, match=r"No file below .*/in/data matches the pattern"):
        run(compress(str(source), str(tmp_path / "out" / "a.tgz"), CompressOptions(pattern=pattern.format(tmp_path))))
    assert tree(tmp_path) == before


def test_invalid_pattern_raises_invalid(source: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="regular expression"):
        run(compress(str(source), str(tmp_path / "out" / "a.tgz"), CompressOptions(pattern=r"\(unclosed")))
    assert inside(tmp_path / "out") == []


@pytest.mark.parametrize("pattern", [None, r".*\.txt"])
def test_dereference(source: Path, tmp_path: Path, pattern: str | None) -> None:
    (source / "link.txt").symlink_to("../sibling.txt")
    target = tmp_path / "out" / "a.tar"
    run(compress(str(source), str(target), CompressOptions(pattern=pattern, dereference=True, compression="none")))
    with tarfile.open(target) as tar:
        packed = tar.extractfile("data/link.txt")
        assert tar.getmember("data/link.txt").isreg()
        assert packed is not None
        assert packed.read() == b"not mine"


def test_symlinks_are_packed_as_links(source: Path, tmp_path: Path) -> None:
    (source / "link.txt").symlink_to("./../sibling.txt")
    target = tmp_path / "out" / "a.tar"
    run(compress(str(source), str(target), CompressOptions(compression="none")))
    with tarfile.open(target) as tar:
        assert tar.getmember("data/link.txt").linkname == "./../sibling.txt"


@pytest.mark.parametrize("pattern", [None, ".*"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_archive_below_its_source_excludes_itself(
    source: Path, tmp_path: Path, pattern: str | None, compression: Compression
) -> None:
    (tmp_path / "way").symlink_to("in")
    target = tmp_path / "way" / "data" / "sub" / "a[1]*.tar"
    expected = {"data/a.txt", "data/b.log", "data/sub/c.txt"}
    for _ in range(2):
        run(compress(f"{tmp_path}/way/data", str(target), CompressOptions(pattern=pattern, compression=compression)))
        assert members(target) - {"data", "data/sub"} == expected
    assert inside(source / "sub") == ["a[1]*.tar", "c.txt"]


def test_an_archive_of_nothing_but_itself(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(NotFound, match="matches the pattern"):
        run(compress(f"{tmp_path}/data", f"{tmp_path}/data/a.tgz", CompressOptions(pattern=".*")))
    assert inside(tmp_path / "data") == []


def test_single_file_and_trailing_slash(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.tgz"
    run(compress(str(source / "a.txt"), str(target)))
    assert members(target) == {"a.txt"}
    run(compress(f"{source}//", str(target), CompressOptions(pattern=r".*/a\.txt")))
    assert members(target) == {"data/a.txt"}


@pytest.mark.parametrize("source_path", ["/", "//", "/home/..", "/home/u/.", "/home/u/./"])
def test_source_path_must_end_in_a_name(source_path: str) -> None:
    with pytest.raises(Invalid, match="must end in the name"):
        compress(source_path, "/home/u/a.tgz")


@pytest.mark.parametrize("bad", ["a\0b", "\ud800"])
def test_impossible_arguments_are_refused(bad: str) -> None:
    for made in (
        lambda: compress(f"/h/{bad}", "/h/t"),
        lambda: compress("/h/s", f"/h/{bad}"),
        lambda: compress("/h/s", "/h/t", CompressOptions(pattern=bad)),
        lambda: extract(f"/h/{bad}", "/h/t"),
        lambda: extract("/h/s", f"/h/{bad}"),
    ):
        with pytest.raises(Invalid):
            made()


def test_environment_is_ignored(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.tgz"
    (source / "\udcff.txt").write_text("no UTF-8")
    hostile = {"TAR_OPTIONS": "--exclude=*", "CDPATH": str(tmp_path), "LC_ALL": "C.UTF-8", "POSIXLY_CORRECT": "1"}
    run(compress(str(source), str(target), CompressOptions(pattern=r"\./data/.\.txt")), env=hostile)
    assert members(target) == {"data/a.txt", "data/\udcff.txt"}
    run(compress(str(source), str(target)), env=hostile)
    run(extract(str(target), str(tmp_path / "new")), env=hostile)
    assert tree(tmp_path / "new" / "data") == tree(source)


def test_new_archive_has_the_default_mode(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.tgz"
    before = os.umask(0o027)
    try:
        run(compress(str(source), str(target)))
    finally:
        os.umask(before)
    assert target.stat().st_mode & 0o7777 == 0o640


def test_a_replaced_archive_keeps_its_mode_and_a_link_to_it(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.tgz"
    target.write_text("old")
    target.chmod(0o604)
    link = tmp_path / "link"
    link.symlink_to("out/a.tgz")
    run(compress(str(source), str(link)))
    assert link.is_symlink()
    assert target.stat().st_mode & 0o7777 == 0o604
    assert "data/a.txt" in members(target)


def test_the_old_archive_stays_when_packing_fails(home: Path, ordinary: int | None) -> None:
    source = home / "data"
    source.mkdir()
    (source / "secret").write_text("x")
    (source / "secret").chmod(0)
    (home / "a.tgz").write_text("old")
    for path in (source, source / "secret", home / "a.tgz"):
        if ordinary is not None:
            os.chown(path, ordinary, -1)
    with pytest.raises(Denied, match="Permission denied"):
        run(compress(str(source), str(home / "a.tgz")), user=ordinary)
    assert (home / "a.tgz").read_text() == "old"
    assert inside(home) == ["a.tgz", "data"]


def test_termination_leaves_no_temporary_file(home: Path) -> None:
    fifo = home / "data"
    os.mkfifo(home / "list")
    fifo.mkdir()
    (fifo / "a").write_text("a")
    # This xz signals that it runs, then blocks, like a long compression.
    (home / "xz").write_text(
        f'#!/bin/sh\nexec >/dev/null\necho running > "{home}/list"\ncat\nread never < "{home}/list"\n'
    )
    (home / "xz").chmod(0o755)
    script = compress(str(fifo), str(home / "a.tar.xz"), CompressOptions(compression="xz"))
    with subprocess.Popen(
        script.argv,
        env={"PATH": f"{home}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        assert (home / "list").read_text() == "running\n"
        assert [name for name in inside(home) if name.startswith(".f7t_archive_")]
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait() != 0
    assert inside(home) == ["data", "list", "xz"]


def test_unpacking_over_existing_files_and_into_a_link(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.tgz"
    run(compress(str(source), str(target)))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "keep").write_text("kept")
    (tmp_path / "there" / "data").mkdir()
    (tmp_path / "there" / "data" / "a.txt").write_text("older")
    (tmp_path / "way").symlink_to("there")
    run(extract(str(target), str(tmp_path / "way")))
    assert (tmp_path / "there" / "data" / "a.txt").read_text() == "a"
    assert (tmp_path / "there" / "keep").read_text() == "kept"


def test_members_stay_below_the_target(tmp_path: Path) -> None:
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        way = tarfile.TarInfo("way")
        way.type, way.linkname = tarfile.SYMTYPE, ".."
        tar.addfile(way)
        for name in ("way/through", "../up", f"{tmp_path}/absolute"):
            tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(GatewayError):
        run(extract(str(archive), str(tmp_path / "target"), compression="none"))
    assert inside(tmp_path) == ["evil.tar"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("content", [b"", b"hello", os.urandom(20_000)])
def test_not_an_archive(tmp_path: Path, compression: Compression, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(Invalid):
        run(extract(str(tmp_path / "x"), str(tmp_path / "new"), compression=compression))
    assert inside(tmp_path) == ["x"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_truncated_archive(source: Path, tmp_path: Path, compression: Compression) -> None:
    (source / "big").write_bytes(os.urandom(300_000))
    target = tmp_path / "out" / "a"
    run(compress(str(source), str(target), CompressOptions(compression=compression)))
    os.truncate(target, 200_000)
    with pytest.raises(Invalid):
        run(extract(str(target), str(tmp_path / "new"), compression=compression))


def test_wrong_compression_is_refused(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "a"
    run(compress(str(source), str(target), CompressOptions(compression="gzip")))
    with pytest.raises(Invalid, match="format not recognized"):
        run(extract(str(target), str(tmp_path / "new"), compression="xz"))


def test_missing_source_and_archive(source: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"cannot statx '.*/data/none': No such file or directory$"):
        run(compress(str(source / "none"), str(tmp_path / "out" / "a.tgz")))
    with pytest.raises(NotFound, match="No such file or directory"):
        run(compress(str(source), str(tmp_path / "none" / "a.tgz")))
    with pytest.raises(NotFound, match="No such file or directory"):
        run(extract(str(source / "none"), str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()


def test_folder_and_file_confused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="Is a directory"):
        run(compress(str(source), str(tmp_path / "out")))
    with pytest.raises(Invalid, match="Is a directory"):
        run(extract(str(source), str(tmp_path / "new")))
    with pytest.raises(Invalid, match="Not a directory"):
        run(compress(str(source), str(source / "a.txt" / "a.tgz")))
    run(compress(str(source), str(tmp_path / "a.tgz")))
    with pytest.raises(Conflict, match="File exists"):
        run(extract(str(tmp_path / "a.tgz"), str(source / "a.txt")))


def test_no_permission(home: Path, ordinary: int | None, source: Path) -> None:
    (home / "shut").mkdir()
    (home / "shut").chmod(0o555)
    if ordinary is None:
        (home / "in").mkdir()
    (home / "a").write_text("a")
    with pytest.raises(Denied, match="Permission denied"):
        run(compress(str(home / "a"), str(home / "shut" / "a.tgz")), user=ordinary)
    run(compress(str(source), str(home / "a.tgz")))
    with pytest.raises(Denied, match="Permission denied"):
        run(extract(str(home / "a.tgz"), str(home / "shut")), user=ordinary)
    with pytest.raises(Denied, match="Permission denied"):
        run(extract(str(home / "a.tgz"), str(home / "shut" / "new")), user=ordinary)


def test_missing_compression_program(source: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "stat", "readlink", "mktemp", "mkdir", "rmdir", "tar", "rm", "chmod", "sync", "mv", "cat"):
        (tools / tool).symlink_to(f"/bin/{tool}")
    run(compress(str(source), str(tmp_path / "a.xz"), CompressOptions(compression="xz")))
    with pytest.raises(Unsupported, match="not installed on the cluster: xz"):
        run(extract(str(tmp_path / "a.xz"), str(tmp_path / "new"), compression="xz"), env={"PATH": str(tools)})
    with pytest.raises(Unsupported, match="xz"):
        run(compress(str(source), str(tmp_path / "a"), CompressOptions(compression="xz")), env={"PATH": str(tools)})
    (tools / "tar").unlink()
    with pytest.raises(Unsupported, match="not installed on the cluster: tar"):
        run(compress(str(source), str(tmp_path / "a")), env={"PATH": str(tools)})
    assert not (tmp_path / "a").exists()


def test_program_killed_by_a_signal() -> None:
    with pytest.raises(Upstream, match="137"):
        finished(Output(137))
