"""The DirectUploads port: what the signed URLs of an upload do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.transfer.direct.links import Ticket


class DirectUploads(Protocol):
    """One user's uploads in parts. Tickets come from verified URLs, and their paths were checked by `check_path`.

    All raise Gone if the transfer has ended, NotFound if there is none, Unavailable if the connection was lost: the
    request can be repeated.
    """

    async def put_part(self, ticket: Ticket, number: int, chunks: AsyncIterator[bytes], deadline: Deadline) -> str:
        """Write a part; returns its MD5 in hexadecimal digits. Can be repeated: the last one counts.

        Raises NotFound for a part that there is not, Invalid and TooLarge for a body of another size, Locked if another
        request sends the same part. The deadline limits the opening and each step's progress, not the whole.
        """
        ...

    async def complete(
        self, ticket: Ticket, sums: Mapping[int, str] | None, sha256: bytes | None, deadline: Deadline
    ) -> str:
        """Put the file in place; returns its entity tag. Can be repeated, also after it has succeeded.

        `sums` are the MD5s of the parts that the client has sent, by number; None: they are not compared. With `sha256`
        the file must have that digest. Raises Invalid if a part is missing or another one; the upload goes on then.
        """
        ...

    async def abort(self, ticket: Ticket, deadline: Deadline) -> bool:
        """End the upload and remove its parts. Can be repeated. Returns whether the file was in its place already."""
        ...
