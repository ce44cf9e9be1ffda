"""Put the data of a complete upload in the place of its target, by the same rules as all uploads.

docs/users/files/replacing.md has the rules.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Conflict, GatewayError, NotFound, StaleState
from flamecrest.server.files.remote.replacement.landing import land
from flamecrest.server.files.remote.replacement.opening import OpenFile, opened_itself
from flamecrest.server.files.remote.replacement.questions import made
from flamecrest.server.files.remote.replacement.targets import find_target
from flamecrest.server.files.remote.writing import IN_FLIGHT_BYTES, within_stall_timeout
from flamecrest.server.files.resumable.identity import find_file
from flamecrest.server.files.values import DEFAULT_WRITE, WriteOptions
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ, FLAG_WRITE, Attrs
from flamecrest.server.transfer.direct.parts import DataFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flamecrest.server.files.resumable.lock import UploadLock
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session
    from flamecrest.server.transfer.records.record import Record

BEAT: Final = 0.5  # seconds


async def identify(session: Session, path: bytes) -> int:
    """The identity of a file; 0 if it is not known."""
    with suppress(GatewayError):
        return (await find_file(session, path, Deadline.after(session.stall_timeout))).identity
    return 0


async def is_landed(session: Session, record: Record) -> bool:
    """Whether the data is at the target already: a gateway was killed before it could record that."""
    identity = DataFile.of(record).file
    if not identity:
        return False
    try:
        found = await find_file(session, os.fsencode(record.target), Deadline.after(session.stall_timeout))
    except NotFound:
        return False
    return found.identity == identity


@asynccontextmanager
async def opened_data(session: Session, sftp: Sftp, record: Record, owner: int | None) -> AsyncIterator[OpenFile]:
    """The open data of an upload. Raises Conflict if another file is in its place, SftpError if there is none.

    In a folder that others may write, they can put a file or a link there.
    """
    data, identity = os.fsencode(record.data), DataFile.of(record).file
    async with opened_itself(sftp, data, FLAG_READ | FLAG_WRITE, "upload") as file:
        same = not identity or await identify(session, data) in {identity, 0}
        if file.attrs.uid != owner or not same:
            raise Conflict(f"upload: {record.path}: another file is in the place of the data")
        yield file


async def land_data(session: Session, sftp: Sftp, record: Record, path: str, file: OpenFile, lock: UploadLock) -> None:
    """Replace the target by the data. Raises the reason if it may not be replaced; it is unchanged then."""
    prefix = f"upload: {path}"
    target = await find_target(
        session, sftp, os.fsencode(path), DEFAULT_WRITE, prefix, Deadline.after(session.stall_timeout)
    )
    if target.path != os.fsencode(record.target):
        raise StaleState(f"{prefix}: the path leads to another file now")
    await lock.beat()
    if target.existing is None:
        await within_stall_timeout(sftp, sftp.fsetstat(file.handle, Attrs(mode=DataFile.of(record).mode)))
    await within_stall_timeout(sftp, sftp.fsync(file.handle))
    temporary = made(os.fsencode(record.data), await sftp.fstat(file.handle))
    await land(session, sftp, temporary, target, WriteOptions(sync=True), prefix, opened=file.handle)


async def md5_of(sftp: Sftp, handle: bytes, start: int, size: int) -> str:
    """The MD5 of a range of an open file, in hexadecimal digits."""
    digest = hashlib.md5(usedforsecurity=False)
    for begin in range(start, start + size, IN_FLIGHT_BYTES):
        end = min(begin + IN_FLIGHT_BYTES, start + size)
        places = range(begin, end, sftp.read_size)
        reads = [sftp.read(handle, at, min(sftp.read_size, end - at)) for at in places]
        for piece in await asyncio.gather(*(within_stall_timeout(sftp, read) for read in reads)):
            digest.update(piece)
    return digest.hexdigest()


@asynccontextmanager
async def beating(lock: UploadLock) -> AsyncIterator[None]:
    """Write heartbeats while the block runs, so that no other request takes the lock over."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(BEAT)
            await lock.beat()

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # the owner of the lock finds out at its own next beat
