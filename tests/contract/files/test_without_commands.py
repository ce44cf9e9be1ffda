"""Every file operation for a login that offers SFTP only: SFTP does it, or the error names the operation."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamecrest.server.errors import Denied, GatewayError, Invalid
from flamecrest.server.files.remote.without_commands.modes import changed_mode
from flamecrest.server.files.resumable.remote import RemoteUploads
from flamecrest.server.files.values import ListOptions, TextRange, WriteOptions
from flamecrest.server.ssh.errors import NoCommands

from .places import Place, on_sandbox, soon

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sftp_only", "no_commands"])
async def login(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with on_sandbox(tmp_path, subsystem=True) as found:
        getattr(found.server.faults, request.param).add("ann")
        yield found


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def walk_through(login: Place) -> None:
    """Do all that SFTP can do."""
    queries, changes, content, path = login.queries, login.changes, login.content, login.path
    for data in (b"small", b"x" * 200_000):
        await content.upload(path("f"), pieces(data), soon(), WriteOptions(report_stat=True))
        async with content.download(path("f"), soon()) as reader:
            assert b"".join([part async for part in reader.chunks()]) == data
    assert (await queries.stat(path("f"), soon())).size == 200_000
    assert [(entry.name, entry.size) for entry in await queries.ls(login.folder, soon())] == [("f", 200_000)]
    assert (await queries.ls(path("f"), soon()))[0].name == path("f")
    assert await queries.head(path("f"), soon(), TextRange(3, 1000, "bytes")) == "xxx"
    await queries.df(login.folder, soon())
    await changes.mkdir(path("a/b"), soon(), parents=True)
    await changes.symlink("nowhere", path("a/link"), soon())
    await changes.touch(path("a/new"), soon())
    await changes.touch(path("a/new"), soon(), mtime=1_000_000)
    assert (await queries.stat(path("a/new"), soon())).mtime == 1_000_000
    await changes.touch(path("a/new"), soon())
    assert (await queries.stat(path("a/new"), soon())).mtime > 1_700_000_000
    await changes.chmod(path("a/new"), "640", soon())
    await changes.chmod(path("a/new"), "u+x,go=r", soon())
    assert stat.S_IMODE((await queries.stat(path("a/new"), soon())).mode) == 0o744
    await changes.mv(path("f"), path("a/b/g"), soon())
    await changes.truncate(path("a/b/g"), 7, soon())
    assert len(await queries.ls(path("a"), soon(), ListOptions(recursive=True))) == 4
    await changes.rm(path("a/link"), soon())


async def test_what_sftp_can_do_is_done(login):
    await walk_through(login)


async def test_what_needs_commands_says_so(login):
    changes, queries, path = login.changes, login.queries, login.path
    await changes.touch(path("f"), soon())
    for work, name in (
        (changes.cp(path("f"), path("g"), soon()), "cp"),
        (changes.chown(path("f"), "ann", "", soon()), "chown"),
        (changes.chmod(path("f"), "+x", soon()), r"chmod \+x"),
        (changes.compress(path("f"), path("g"), soon()), "compress"),
        (changes.extract(path("f"), path("g"), soon()), "extract"),
        (queries.checksum(path("f"), soon()), "checksum"),
        (queries.file_type(path("f"), soon()), "file"),
        (queries.du(path("f"), soon()), "du"),
    ):
        with pytest.raises(NoCommands, match=f"offers SFTP only; {name} needs commands"):
            await work


async def test_two_alike_files_are_not_taken_for_one(login):
    await walk_through(login)
    for name in "one", "two":
        await login.content.upload(login.path(name), pieces(name.encode()), soon())
        await login.changes.touch(login.path(name), soon(), mtime=1_000_000)
    await login.changes.mv(login.path("one"), login.path("two"), soon(), overwrite=True)
    assert Path(login.path("two")).read_bytes() == b"one"
    os.link(login.path("two"), login.path("same"))
    with pytest.raises(Invalid, match="same file"):
        await login.changes.mv(login.path("two"), login.path("same"), soon(), overwrite=True)


async def test_an_upload_in_parts(login):
    data = os.urandom(300_000)
    key = (await RemoteUploads(login.session).create(login.path("f"), len(data), "", soon())).key
    await RemoteUploads(login.session).append(key, 0, pieces(data[:100_000]), soon())
    assert (await RemoteUploads(login.session).look(key, soon())).offset == 100_000
    assert (await RemoteUploads(login.session).append(key, 100_000, pieces(data[100_000:]), soon())).complete
    assert Path(login.path("f")).read_bytes() == data


_CLAUSES = st.lists(
    st.tuples(
        st.sampled_from(["u", "g", "o", "a", "ug", "go", "uo"]),
        st.sampled_from("+-="),
        st.sampled_from(["", "r", "w", "x", "X", "rwx", "rX", "s", "t", "xs", "u", "g", "o"]),
    ).map("".join),
    min_size=1,
    max_size=3,
).map(",".join)


@settings(max_examples=25)
@given(symbolic=_CLAUSES, bits=st.integers(0, 0o7777), folder=st.booleans())
def test_symbolic_modes_are_those_of_chmod(tmp_path_factory, symbolic, bits, folder):
    path = tmp_path_factory.mktemp("mode") / "it"
    path.mkdir() if folder else path.touch()
    path.chmod(bits)
    before = path.stat().st_mode
    found = changed_mode(symbolic, before)
    subprocess.run(["chmod", symbolic, str(path)], check=True)
    assert found == stat.S_IMODE(path.stat().st_mode) or (folder and "=" in symbolic and found is None)
    path.rmdir() if folder else path.unlink()


async def tree(login: Place) -> Path:
    root = Path(login.path("tree"))
    await login.changes.mkdir(login.path("tree/in/deep"), soon(), parents=True)
    for name in ("f", "in/g", "in/deep/h"):
        await login.changes.touch(login.path(f"tree/{name}"), soon())
    (root / "out").symlink_to(login.folder)
    return root


async def test_a_tree_is_removed_and_nothing_behind_links(login):
    root = await tree(login)
    await login.changes.touch(login.path("kept"), soon())
    await login.changes.chmod(login.path("tree/in"), "777", soon())
    await login.changes.rm(str(root), soon())
    assert os.listdir(login.folder) == ["kept"]  # noqa: PTH208


async def test_a_tree_that_others_could_change_meanwhile_needs_commands(login):
    root = await tree(login)
    await login.changes.chmod(login.folder, "777", soon())
    with pytest.raises(NoCommands, match="other users could change"):
        await login.changes.rm(str(root), soon())
    assert (root / "in/deep/h").exists()
    await login.changes.chmod(login.folder, "1777", soon())
    await login.changes.rm(str(root), soon())


async def test_a_directory_that_is_not_removed_has_its_mode_again(login):
    root = await tree(login)
    await login.changes.chmod(login.path("tree/in/deep"), "500", soon())
    await login.changes.chmod(login.path("tree/in"), "775", soon())
    with pytest.raises((Denied, GatewayError), match="tree/in/deep"):
        await login.changes.rm(str(root), soon())
    await login.queries.stat(str(root), soon())
    assert stat.S_IMODE((root / "in").stat().st_mode) == 0o775
