"""Presigned URLs of objects. No I/O. botocore signs; only the URLs of further parts are derived from its first one.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

AddressingStyle = Literal["path", "virtual"]
_FIRST: Final = "partNumber=1"


@dataclass(frozen=True, slots=True)
class StoreKey:
    """An access key of a store, and the region that requests are signed for."""

    access_key_id: str
    secret_access_key: str
    region: str

    def __repr__(self) -> str:
        return f"<StoreKey {self.region}>"


class _Signer(S3SigV4QueryAuth):  # type: ignore[misc]  # botocore has no types
    """botocore's signer, which keeps what it has signed."""

    canonical = text = ""

    def string_to_sign(self, request: Any, canonical_request: str) -> str:
        self.canonical = canonical_request
        self.text = str(super().string_to_sign(request, canonical_request))
        return self.text


class Presigner:
    """Makes presigned URLs of one endpoint (`https://host:port`)."""

    def __init__(self, endpoint: str, key: StoreKey, style: AddressingStyle) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._key = key
        self._credentials = Credentials(key.access_key_id, key.secret_access_key)
        self._style = style

    def url(self, method: str, bucket: str, key: str, life: float, query: Mapping[str, str] | None = None) -> str:
        """The URL that allows one method on an object for `life` seconds."""
        request, _ = self._signed(method, bucket, key, life, query or {})
        return str(request.url)

    def part_urls(self, bucket: str, key: str, upload: str, numbers: range, life: float) -> Iterator[str]:
        """The URLs by which parts of a multipart upload are sent by PUT.

        The library takes 0.3 ms for each URL; so it signs the first one, and the others differ from it in a number.
        What they have in common is hashed once.
        """
        query = {"partNumber": "1", "uploadId": upload}
        request, signer = self._signed("PUT", bucket, key, life, query)
        hashed = hashlib.sha256(signer.canonical.encode()).hexdigest()
        common, _, signature = str(request.url).rpartition("=")
        keyed = _Keyed(_signing_key(self._key, request.context["timestamp"][:8]), signer.text.removesuffix(hashed))
        if keyed.signature(hashed) != signature or signer.canonical.count(_FIRST + "&") != 1:
            raise RuntimeError("botocore signs otherwise than this module knows")
        before, _, after = signer.canonical.partition(_FIRST + "&")
        start, _, end = common.partition(_FIRST)
        begun, rest = hashlib.sha256(before.encode()), f"&{after}".encode()
        for number in numbers:
            canonical = begun.copy()
            canonical.update(b"partNumber=%d%b" % (number, rest))
            yield f"{start}partNumber={number}{end}={keyed.signature(canonical.hexdigest())}"

    def _signed(self, method: str, bucket: str, key: str, life: float, query: Mapping[str, str]) -> tuple[Any, _Signer]:
        signer = _Signer(self._credentials, "s3", self._key.region, expires=int(life))
        request = AWSRequest(method, self._address(bucket, key), params=dict(query))
        signer.add_auth(request)
        return request, signer

    def _address(self, bucket: str, key: str) -> str:
        if self._style == "virtual":
            parts = urlsplit(self._endpoint)
            return f"{parts.scheme}://{bucket}.{parts.netloc}{parts.path}/{quote(key)}"
        return f"{self._endpoint}/{quote(bucket, safe='')}/{quote(key)}"


def _signing_key(key: StoreKey, day: str) -> bytes:
    secret = b"AWS4" + key.secret_access_key.encode()
    for part in (day, key.region, "s3", "aws4_request"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    return secret


class _Keyed:
    """HMAC-SHA256 (RFC 2104) of texts that begin in the same way: the library's takes three times as long."""

    def __init__(self, key: bytes, start: str) -> None:
        block = key.ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + start.encode())
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def signature(self, end: str) -> str:
        """The MAC of a text that ends so, in hexadecimal digits."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(end.encode())
        outer.update(inner.digest())
        return outer.hexdigest()
