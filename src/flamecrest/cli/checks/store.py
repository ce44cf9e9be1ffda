"""Tries an object store as a client meets it: create, put by the public URL, get by the public URL, remove."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from flamecrest.server.errors import Conflict, Denied, GatewayError, NotFound, Timeout, Unavailable, Upstream
from flamecrest.server.transfer.port import RefusedKey

from .running import Advice, UnusableResponse

if TYPE_CHECKING:
    import httpx

    from flamecrest.server.transfer.s3.access import StoreAccess

LIFE: Final = 300.0  # seconds of the URLs
STORE_ADVICE: Final[Advice] = {
    RefusedKey: "correct access_key_id and secret_access_key; after RequestTimeTooSkewed, set the clock of this "
    "machine or of the store",
    NotFound: "private_url must be the address of the S3 service itself",
    Denied: "correct access_key_id and secret_access_key; the key must be allowed to create buckets",
    Conflict: "correct access_key_id and secret_access_key; if the bucket belongs to somebody else, set "
    "bucket_name_prefix",
    Timeout: "check the firewall between the gateway and private_url",
    Unavailable: "check private_url and the store",
    Upstream: "check private_url, region and the store's log",
}


async def try_store(access: StoreAccess, username: str, client: httpx.AsyncClient) -> str:
    """Upload and download a small object in the user's bucket.

    Raises UnusableResponse if the store does not do what a client will ask of it, GatewayError and httpx.HTTPError.
    """
    bucket, key, content = access.bucket(username), f"flamecrest-check-{secrets.token_hex(8)}", secrets.token_bytes(64)
    await access.store.ensure_bucket(bucket)
    upload = await access.store.begin_upload(bucket, key, "attachment")
    try:
        (put,) = access.public.part_urls(bucket, key, upload, range(1, 2), LIFE)
        sent = await client.put(put, content=content)
        _require(sent, "PUT")
        await access.store.complete_upload(bucket, key, upload, [sent.headers.get("etag", "")])
        got = await client.get(access.public.url("GET", bucket, key, LIFE))
        _require(got, "GET")
        if got.content != content:
            raise UnusableResponse(
                "the public URL gives other bytes than were sent", "check the proxy before the store"
            )
    finally:
        with suppress(GatewayError):
            await access.store.discard(bucket, key, upload)
    return f"clients upload to and download from {_origin(str(got.request.url))}, bucket {bucket}"


def _require(response: httpx.Response, method: str) -> None:
    if response.is_success:
        return
    origin = _origin(str(response.request.url))
    code = response.text.partition("<Code>")[2].partition("</Code>")[0]
    message = f"{method} by a presigned URL of {origin}: status {response.status_code} {code}".rstrip()
    raise UnusableResponse(
        message, "check public_url, region and addressing_style; a proxy must pass on the Host header"
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
