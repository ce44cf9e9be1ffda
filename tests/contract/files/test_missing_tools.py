"""Login nodes without some programs: operations use a fallback, or raise Unsupported if there is none."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from flamecrest.server.errors import Unsupported
from flamecrest.server.files.archives.packing import zstd_frame
from flamecrest.server.files.archives.remote import RemoteBulk
from flamecrest.server.files.values import CompressOptions

from .places import Place, on_sandbox, soon
from .test_bulk import check_modes
from .test_files import fetch, names, put

pytestmark = pytest.mark.anyio

Without = Callable[..., AbstractAsyncContextManager[Place]]


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to all programs of this machine."""
    folder = tmp_path_factory.mktemp("programs")
    for path in ("/usr/local/bin", "/usr/bin", "/bin"):
        for program in os.listdir(path):  # noqa: PTH208 -- thousands of Path objects take a second
            with suppress(FileExistsError):
                os.symlink(f"{path}/{program}", folder / program)  # noqa: PTH211
    return folder


@pytest.fixture
def without(tmp_path: Path, linked: Path) -> Iterator[Without]:
    """A place whose login script removes these programs from PATH."""
    removed: dict[Path, str] = {}

    @asynccontextmanager
    async def start(*programs: str, subsystem: bool = True) -> AsyncIterator[Place]:
        for path in (linked / name for name in programs):
            if path.is_symlink():
                removed[path] = os.readlink(path)  # noqa: PTH115 -- may be a link to a link
                path.unlink()
        async with on_sandbox(tmp_path, subsystem=subsystem) as place:
            assert place.server is not None
            place.server.faults.rc_files = True
            for name in programs:
                (tmp_path / "bin" / name).unlink(missing_ok=True)
            (place.server.users["ann"].home / ".bashrc").write_text(f"PATH={tmp_path}/bin:{linked}\n")
            yield place

    yield start
    for path, target in removed.items():
        path.symlink_to(target)


async def lacks(program: str, asking: Awaitable[object]) -> None:
    with pytest.raises(Unsupported, match=f"not installed on the cluster: {program}$"):
        await asking


async def test_error_names_the_missing_program(without: Without) -> None:
    programs = ("file", "sha256sum", "b2sum", "find", "chmod", "touch", "chown", "cp", "tar")
    async with without(*programs) as place:
        path, target = await put(place, "file", b"data"), place.path("target")
        await lacks("file", place.queries.file_type(path, soon()))
        await lacks("sha256sum", place.queries.checksum(path, soon()))
        await lacks("b2sum", place.queries.checksum(path, soon(), algorithm="blake2b"))
        assert await place.queries.checksum(path, soon(), algorithm="md5") == "8d777f385d3dfec8815d20f7496026dc"
        await lacks("find", place.queries.du(path, soon()))
        await lacks("chmod", place.changes.chmod(path, "u+x", soon()))
        await lacks("touch", place.changes.touch(path, soon()))
        await lacks("chown", place.changes.chown(path, "ann", "ann", soon()))
        await lacks("cp", place.changes.cp(path, target, soon()))
        await lacks("tar", place.changes.compress(path, target, soon(), CompressOptions(compression="none")))
        await lacks("tar", place.changes.extract(path, target, soon(), compression="none"))
        assert await names(place, hidden=True) == ["file"]


async def test_copy_without_a_needed_program_is_not_a_conflict(without: Without) -> None:
    async with without("mv") as place:
        path = await put(place, "file", b"data")
        await lacks("mv", place.changes.cp(path, place.path("target"), soon()))
        assert await names(place, hidden=True) == ["file"]


async def test_scripts_need_bash(without: Without) -> None:
    async with without("bash") as place:
        path = await put(place, "file", b"data")
        await lacks("bash", place.changes.cp(path, place.path("target"), soon()))
        await lacks("bash", place.changes.compress(path, place.path("target"), soon()))


@pytest.mark.parametrize(("program", "mode"), [("gzip", "w:gz"), ("bzip2", "w:bz2"), ("xz", "w:xz")])
async def test_missing_compression_programs(without: Without, program: Any, mode: Any) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        archive.addfile(tarfile.TarInfo("inner"))
    async with without(program) as place:
        path = await put(place, "archive", packed.getvalue())
        await lacks(
            program, place.changes.compress(path, place.path("new"), soon(), CompressOptions(compression=program))
        )
        await lacks(program, place.changes.extract(path, place.path("out"), soon(), compression=program))
        assert await names(place, hidden=True) == ["archive"]
        await place.changes.compress(path, place.path("new"), soon(), CompressOptions(compression="none"))
        assert await names(place, hidden=True) == ["archive", "new"]


@pytest.mark.parametrize("programs", [("perl",), ("perl", "quota", "df")])
async def test_fallbacks_without_perl(without: Without, programs: tuple[str, ...]) -> None:
    async with without(*programs) as place:
        path = await put(place, "file", b"data")
        assert await fetch(place, path) == b"data"
        found = await place.queries.stat(path, soon())
        there = Path(path).stat()
        assert (found.ino, found.size, found.mtime) == (there.st_ino, 4, int(there.st_mtime))
        (entry,) = await place.queries.ls(place.folder, soon())
        assert (entry.name, entry.size, entry.user) == ("file", 4, "ann")
        space = await place.queries.df(path, soon())
        assert (space.total > 0, space.quota) == (True, None)


async def test_owners_without_getent_are_numeric(without: Without) -> None:
    async with without("getent") as place:
        entry = await place.queries.entry(await put(place, "file"), soon())
        owner = str((await place.queries.stat(entry.name, soon())).uid)
        assert (entry.user, entry.group) == (owner, owner)


async def test_missing_stat_program_is_not_reported_as_missing_file(without: Without) -> None:
    """The shell's "No such file or directory" refers to the program: SFTP answers then."""
    async with without("perl", "stat") as place:
        path = await put(place, "file", b"data")
        assert (await place.queries.stat(path, soon())).size == 4
        assert await names(place) == ["file"]


@pytest.mark.parametrize(
    ("program", "form"), [("zstd", "zstd"), ("gzip", "gzip"), ("tar", "tar"), ("tar", "gzip"), ("head", "gzip")]
)
async def test_bulk_archive_without_the_program_to_pack(without: Without, program: str, form: Any) -> None:
    async with without(program) as place:
        bulk, path = RemoteBulk(place.session), await put(place, "file", b"data")
        chosen = await bulk.select([path], None, soon())
        with pytest.raises(Unsupported, match=form):
            async with bulk.pack(chosen, form, soon()):
                pass


async def test_bulk_archive_without_the_program_to_unpack(without: Without) -> None:
    async def sent() -> AsyncIterator[bytes]:
        yield zstd_frame(b"no archive")

    async with without("zstd") as place:
        with pytest.raises(Unsupported, match="zstd"):
            await RemoteBulk(place.session).unpack(place.folder, sent(), soon())
        assert await names(place, hidden=True) == []


async def test_without_perl_an_existing_file_is_written_in_place(without: Without) -> None:
    """Nothing shows its links and ACLs then, so they are kept by not replacing it. The new content arrives first."""
    async with without("perl") as place:
        path = await put(place, "f", b"old and longer")
        await place.run('ln "$1" "$1.link" && chmod 640 "$1"', path)
        before = await place.queries.stat(path, soon())
        for data in (b"new", b"x" * 100_000, b""):
            await put(place, "f", data)
            assert await fetch(place, f"{path}.link") == data
        after = await place.queries.stat(path, soon())
        assert (after.ino, after.mode) == (before.ino, before.mode)
        assert await names(place, hidden=True) == ["f", "f.link"]


async def test_without_perl_modes_in_an_archive_are_those_that_the_server_allows(without: Without) -> None:
    async with without("perl") as place:
        await check_modes(place)
