"""Files in folders that other users may write to: what they put in the place of ours is not opened."""

from __future__ import annotations

import pytest

from flamecrest.server.errors import Conflict, GatewayError, Invalid
from flamecrest.server.files.remote.replacement.opening import open_itself
from flamecrest.server.files.remote.replacement.questions import made
from flamecrest.server.ssh.channels.sftp import Sftp
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ

from .places import Place, soon

pytestmark = [pytest.mark.anyio, pytest.mark.needs("ssh")]


@pytest.mark.parametrize(
    ("swap", "error"),
    [
        ("true", None),
        ("mv secret temporary", Conflict),
        ("ln -sf secret temporary", Invalid),
        ("mkfifo fifo && mv fifo temporary", Invalid),
        ("rm temporary && mkdir temporary", Invalid),
        ("touch -d 2001-01-01 temporary", Conflict),
        ("printf longer >temporary", Conflict),
    ],
)
async def test_only_the_file_that_was_made_is_opened(place: Place, swap: str, error: type[GatewayError] | None) -> None:
    path = place.path("temporary").encode()

    async def use(sftp: Sftp) -> bytes:
        written = made(path, await sftp.lstat(path))
        await place.run('cd "$1" && ' + swap, place.folder)
        handle, _ = await open_itself(sftp, path, FLAG_READ, "upload", written)
        return await sftp.read(handle, 0, 9)

    await place.run(
        'cd "$1" && printf old >temporary && printf key >secret && touch -d 2001-01-01 secret', place.folder
    )
    if error is None:
        assert await place.session.sftp(use, soon()) == b"old"
    else:
        with pytest.raises(error):
            await place.session.sftp(use, soon())
