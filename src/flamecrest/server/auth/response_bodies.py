"""Bodies of responses of issuers, OpenFGA and SSH key services, within a limit of size."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx


async def read_body(response: httpx.Response, limit: int) -> bytes | None:
    """The body as it was sent, not decompressed; None if it is larger than `limit` bytes. Raises httpx's errors."""
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > limit:
            return None
    return bytes(content)
