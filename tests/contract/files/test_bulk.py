"""Contract of the Bulk port: select paths, pack them as an archive, unpack an archive."""

from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import AsyncIterator, Sequence

import pytest

from flamecrest.server.errors import Invalid, NotFound
from flamecrest.server.files.archives.port import TRAILER
from flamecrest.server.files.values import ListOptions

from .places import Place, soon

pytestmark = pytest.mark.anyio


async def send(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def put(place: Place, name: str, data: bytes = b"data") -> str:
    path = place.path(name)
    await place.changes.mkdir(path.rpartition("/")[0], soon(), parents=True)
    await place.content.upload(path, send(data), soon())
    return path


async def packed(place: Place, paths: Sequence[str], base: str | None = None) -> dict[str, bytes | None]:
    """The members of the tar archive of some paths: content by name, None for a member that is not a file."""
    selection = await place.bulk.select(paths, base, soon())
    async with place.bulk.pack(selection, "tar", soon()) as chunks:
        data = b"".join([chunk async for chunk in chunks])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        return {name: None if file is None else file.read() for name, file in files.items()}


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


async def listed(place: Place) -> list[str]:
    options = ListOptions(hidden=True, recursive=True)
    return [entry.name for entry in await place.queries.ls(place.folder, soon(), options)]


async def test_archive_holds_files_and_directories_relative_to_the_base(place: Place) -> None:
    await put(place, "a/b/file", b"1")
    other = await put(place, "other", b"2")
    assert await packed(place, [place.path("a"), other], place.folder) == {
        "a": None,
        "a/b": None,
        "a/b/file": b"1",
        "other": b"2",
    }


async def test_default_base_is_the_common_parent(place: Place) -> None:
    one, two = await put(place, "a/one", b"1"), await put(place, "a/two", b"2")
    assert await packed(place, [one, two]) == {"one": b"1", "two": b"2"}


async def test_any_name_is_archived(place: Place) -> None:
    names = ["-rf", "a\nb", "back\\slash", "it's", "ümläut"]
    paths = [await put(place, name, name.encode()) for name in names]
    assert await packed(place, paths, place.folder) == {name: name.encode() for name in names}


async def test_missing_paths_are_listed(place: Place) -> None:
    path, none = await put(place, "file"), place.path("none")
    selection = await place.bulk.select([path, none], None, soon())
    assert [(one.path, one.message) for one in selection.missing] == [(none, "No such file or directory")]
    found = await packed(place, [path, none])
    assert found.pop(TRAILER) is not None
    assert found == {"file": b"data"}


async def test_nothing_to_archive_is_not_found(place: Place) -> None:
    with pytest.raises(NotFound, match="No such file"):
        await place.bulk.select([place.path("none")], None, soon())


async def test_paths_outside_the_base_are_invalid(place: Place) -> None:
    path = await put(place, "a/file")
    await put(place, "b/file")
    with pytest.raises(Invalid):
        await place.bulk.select([path], place.path("b"), soon())
    with pytest.raises(Invalid):
        await place.bulk.select([place.path("a/../b")], None, soon())


async def test_unpack_creates_files_and_their_directories(place: Place) -> None:
    data = tar({"x": b"1", "d/e/y": b"22"})
    result = await place.bulk.unpack(place.folder, send(data[:700], data[700:]), soon())
    assert (result.created, result.failures, result.complete) == (2, 0, True)
    assert await listed(place) == ["d", "d/e", "d/e/y", "x"]
    assert await place.queries.view(place.path("d/e/y"), soon(), offset=0, size=9) == "22"


async def test_unpack_writes_nothing_outside_the_directory(place: Place) -> None:
    await place.changes.mkdir(place.path("in"), soon())
    data = tar({"../escaped": b"1", "/absolute": b"2", "kept": b"3"})
    result = await place.bulk.unpack(place.path("in"), send(data), soon())
    assert (result.created, result.failures) == (1, 2)
    assert [one.path for one in result.failed] == ["../escaped", "/absolute"]
    assert await listed(place) == ["in", "in/kept"]


async def test_truncated_archive_is_reported(place: Place) -> None:
    result = await place.bulk.unpack(place.folder, send(tar({"x": b"1", "y": b"2" * 3000})[:2048]), soon())
    assert (result.created, result.complete) == (1, False)
    assert await listed(place) == ["x"]


async def test_invalid_archive_raises_invalid(place: Place) -> None:
    with pytest.raises(Invalid):
        await place.bulk.unpack(place.folder, send(b"no archive " * 100), soon())
    assert await listed(place) == []


async def test_target_must_be_a_directory(place: Place) -> None:
    path = await put(place, "file")
    with pytest.raises(NotFound, match="No such file"):
        await place.bulk.unpack(place.path("none"), send(tar({"x": b"1"})), soon())
    with pytest.raises(Invalid, match="Not a directory"):
        await place.bulk.unpack(path, send(tar({"x": b"1"})), soon())


@pytest.mark.needs("ssh")
async def test_hard_links_to_one_file_leave_nothing_behind(place: Place) -> None:
    await place.run(
        'cd "$1" && mkdir from && cd from && echo text >a && ln a b && tar -cf ../c.tar a b b', place.folder
    )
    async with place.content.download(place.path("c.tar"), soon()) as reader:
        data = b"".join([chunk async for chunk in reader.chunks()])
    await place.changes.mkdir(place.path("in"), soon())
    for _ in range(2):
        result = await place.bulk.unpack(place.path("in"), send(data), soon())
        assert (result.created, result.failures) == (3, 0)
    assert await listed(place) == ["c.tar", "from", "from/a", "from/b", "in", "in/a", "in/b"]


@pytest.mark.needs("ssh")
async def test_temporary_files_are_not_archived(place: Place) -> None:
    for name in (".flamecrest-upload-0123456789abcdef", ".f7t_copy_aB3xY6zW9q", ".flamecrest-upload-notes", "file"):
        await put(place, f"a/{name}")
    assert set(await packed(place, [place.path("a")])) == {"a", "a/.flamecrest-upload-notes", "a/file"}


async def check_modes(place: Place) -> None:
    """Modes in an archive are subject to the umask; set-ID bits are kept on request only."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, mode in (("d", tarfile.DIRTYPE, 0o2775), ("f", tarfile.REGTYPE, 0o4777), ("d/s", b"0", 0o666)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, mode
            archive.addfile(info)
    umask = int(await place.run("umask"), 8)
    for setuid, special in ((True, (0o2000, 0o4000, 0)), (False, (0, 0, 0))):
        result = await place.bulk.unpack(place.folder, send(out.getvalue()), soon(), setuid=setuid)
        assert result.failures == 0
        modes = [stat.S_IMODE((await place.queries.stat(place.path(name), soon())).mode) for name in ("d", "f", "d/s")]
        assert modes == [(mode & ~umask) | bits for mode, bits in zip((0o775, 0o777, 0o666), special, strict=True)]
        await place.changes.rm(place.path("d"), soon())


@pytest.mark.needs("ssh")
async def test_modes_in_an_archive_are_subject_to_the_umask(place: Place) -> None:
    await check_modes(place)
