"""The end of a transfer through an object store that does not succeed."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flamecrest.server.errors import GatewayError
from flamecrest.server.transfer.records import storage
from flamecrest.server.transfer.records.record import End, EndState, Record

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.transfer.records.names import RecordFiles

    from .access import StoreAccess


@dataclass(frozen=True, slots=True)
class UserStore:
    """An object store for one user."""

    access: StoreAccess
    username: str


async def close(
    sftp: Sftp,
    files: RecordFiles,
    record: Record,
    store: UserStore,
    state: EndState,
    line: str,
    *,
    keep_object: bool = False,
) -> None:
    """Record the end, and remove the data, the object and its parts. An object that is kept can be moved again."""
    item = store.access.place(record, store.username)
    await storage.finish(sftp, files, End(state, int(time.time()), error=line), line)
    await storage.discard(sftp, record.data)
    sftp.forget(sftp.remove(files.urls))
    if keep_object:
        return
    with suppress(GatewayError):  # the bucket's own rules remove what is left
        await store.access.store.discard(item.bucket, item.key, item.upload)
