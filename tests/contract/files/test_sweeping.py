"""Contract of temporary files that were left behind: old ones of the user go at the next visit of their folder."""

from __future__ import annotations

import asyncio
import io
import tarfile

import pytest

from flamecrest.server.files.values import WriteOptions

from .places import Place, soon
from .test_files import put, send

pytestmark = [pytest.mark.anyio, pytest.mark.needs("ssh")]

LINK = ".flamecrest-unpack-eeeeeeeeeeeeeeee"  # as an archive makes it, to a file that stays
FILES = [".flamecrest-upload-0123456789abcdef", ".flamecrest-unpack-fedcba9876543210", LINK]
TREES = [".f7t_copy_aB3xY6zW9q", ".f7t_extract_0123456789", ".f7t_archive_abcdefghij.list"]
KEPT = [
    ".f7t_copy_short",
    ".f7t_file_handling_job_x.log",
    ".flamecrest-unpack-0123456789abcde",  # a digit less
    ".flamecrest-upload-0123456789abcdeX",
    ".flamecrest-upload-aaaaaaaaaaaaaaaa",  # a link
    ".flamecrest-upload-bbbbbbbbbbbbbbbb",  # a folder
    ".flamecrest-upload-cccccccccccccccc",  # young
    ".flamecrest-upload-dddddddddddddddd",  # read or written lately
    ".flamecrest-upload-notes",
    ".f7t_copy_0000000000",  # of a job that may still run
    ".f7t_copy_1111111111",  # a folder whose name others have changed: it may be opened by others,
    ".f7t_extract_2222222222",  # or it holds something else
]
LEAVE = r"""cd "$1" && shift
for name; do echo part >"$name"; done
rm .f7t_copy_[1a]* .f7t_extract_2222222222
mkdir -m 700 .f7t_copy_aB3xY6zW9q .f7t_extract_2222222222
mkdir -m 755 .f7t_copy_1111111111
mkdir -p .f7t_copy_aB3xY6zW9q/new/deep .f7t_copy_1111111111/new
echo part | tee .f7t_copy_aB3xY6zW9q/new/deep/part .f7t_copy_aB3xY6zW9q/list >.f7t_copy_1111111111/new/part
echo text | tee .f7t_extract_2222222222/new >.f7t_extract_2222222222/thesis
rm .flamecrest-upload-[ab]* && ln -s .flamecrest-upload-notes .flamecrest-upload-aaaaaaaaaaaaaaaa
mkdir .flamecrest-upload-bbbbbbbbbbbbbbbb
rm .flamecrest-unpack-eeeeeeeeeeeeeeee && ln -s .flamecrest-upload-notes .flamecrest-unpack-eeeeeeeeeeeeeeee
touch -h -d '9 days ago' .f*
touch -d '2 days ago' .f7t_copy_0000000000
touch -d '1 hour ago' .flamecrest-upload-cccccccccccccccc
touch -a -d '1 hour ago' .flamecrest-upload-dddddddddddddddd
"""


async def small_upload(place: Place) -> None:
    await put(place, "made")


async def large_upload(place: Place) -> None:
    await put(place, "made", bytes(100_000))


async def new_upload(place: Place) -> None:
    options = WriteOptions(exclusive=True, mtime=1000)
    await place.content.upload(place.path("made"), send(b"text"), soon(), options)


async def listing(place: Place) -> None:
    await put(place, "../beside")
    await place.queries.ls(place.folder, soon())


async def bulk_upload(place: Place) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("made"))
    await place.bulk.unpack(place.folder, send(out.getvalue()), soon())


async def copy(place: Place) -> None:
    await place.changes.cp("/etc/passwd", place.path("made"), soon())


@pytest.mark.parametrize(
    ("visit", "goes"),
    [
        (small_upload, FILES + TREES),
        (large_upload, FILES + TREES),
        (listing, FILES + TREES),
        (new_upload, FILES + TREES),
        (bulk_upload, FILES),
        (copy, TREES),
    ],
)
async def test_what_is_left_goes_with_the_next_visit(place: Place, visit, goes) -> None:
    folder = place.path("folder")
    await place.changes.mkdir(folder, soon())
    await place.run(LEAVE, folder, *FILES, *TREES, *KEPT)
    inside = Place(place.files, place.bulk, folder, place.owner, place.ssh)
    await visit(inside)
    expected = {*KEPT, *FILES, *TREES} - {*goes}
    async with asyncio.timeout(20):
        while True:
            found = set((await place.run('ls -A "$1"', folder)).decode().split()) - {"made"}
            if found <= expected:
                break
            await asyncio.sleep(0.02)
    assert found == expected, found - expected
    kept = await place.run('ls -A "$1/.f7t_copy_1111111111/new" "$1/.f7t_extract_2222222222"', folder)
    assert [line for line in kept.decode().split("\n") if line and line[0] != "/"] == ["part", "new", "thesis"]
