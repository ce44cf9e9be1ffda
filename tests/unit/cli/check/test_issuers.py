"""What `check --connect` says of key sets that the gateway cannot use, of redirects, and of clocks that differ."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from flamecrest.cli.checks.running import CheckResult, run_check
from flamecrest.cli.connect import url_checks
from flamecrest.sandbox.issuer import SigningKey
from flamecrest.server.settings import Settings

pytestmark = pytest.mark.anyio

KEY = SigningKey.generate("ES256", "one")
PRIVATE = {**KEY.jwk(), "d": "AAAA"}
SECRET = {"kty": "oct", "k": "aHVudGVyMg"}
PEM = KEY.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@asynccontextmanager
async def serving(body: bytes, *fields: str, status: int = 200) -> AsyncIterator[str]:
    """The URL of a server that answers each request so."""
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *fields]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"


async def checked(**authentication: Any) -> list[CheckResult]:
    settings = Settings.model_validate({"auth": {"authentication": authentication}})
    async with httpx.AsyncClient(timeout=30, follow_redirects=True) as client:
        return [await run_check(what, ask(client), {}) for what, ask in url_checks(settings)]


@pytest.mark.parametrize(
    ("document", "ok", "said"),
    [
        ({"keys": [KEY.jwk()]}, True, "1 key"),
        ({"keys": [KEY.jwk(), SECRET]}, True, "1 key; ignored: key without kid: not an asymmetric key (`kty`)"),
        (KEY.jwk(), True, "1 key"),
        (PEM, True, "1 key"),
        ({"keys": [SECRET]}, False, "key without kid: not an asymmetric key (`kty`)"),
        ({"keys": [PRIVATE]}, False, "the private key is published"),
        ({"keys": [{**SECRET, "kid": f"number {at}"} for at in range(50)]}, False, "not an asymmetric key"),
        ({"keys": []}, False, "the document has no keys"),
        ({"keys": [None, 5, [[]]]}, False, "key is not a JSON object"),
        (b"\xff" * 1000, False, "neither JSON nor PEM"),
        (b"<html>", False, "neither JSON nor PEM"),
    ],
    ids=["jwks", "two", "jwk", "pem", "secret", "private", "many", "none", "no objects", "bytes", "html"],
)
async def test_keys_are_read_as_the_gateway_reads_them(document: Any, ok: bool, said: str) -> None:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    async with serving(body) as url:
        (found,) = await checked(public_certs=[url])
    assert found.ok == ok
    assert said in found.message
    assert len(found.message) < 500
    assert "aHVudGVyMg" not in found.message
    assert ok or "JWKS" in found.advice


async def test_a_redirect_is_not_followed_by_the_gateway_either() -> None:
    async with (
        serving(json.dumps({"keys": [KEY.jwk()]}).encode()) as right,
        serving(b"", f"Location: {right}", status=302) as url,
    ):
        (found,) = await checked(public_certs=[url])
    assert (found.ok, found.message) == (False, "status 302, a redirect")
    assert "to which it leads" in found.advice


@pytest.mark.parametrize(
    ("shift", "age", "said"),
    [(0, 0, ""), (-3600, 3600, ""), (-3600, 0, "behind the clock"), (7200, 0, "ahead of the clock")],
)
async def test_clocks_that_differ(shift: int, age: int, said: str) -> None:
    date = f"Date: {formatdate(time.time() + shift, usegmt=True)}"
    async with serving(json.dumps({"keys": [KEY.jwk()]}).encode(), date, f"Age: {age}") as url:
        named, keys = await checked(issuer="http://127.0.0.1:1", public_certs=[url])
        issuer, _ = await checked(issuer=url, public_certs=[url])
    assert named.message == "no discovery document; none is needed, its keys are in public_certs"
    for one in (keys, issuer):
        assert one.ok == (said == "") or one is issuer
        assert said in one.message
        assert "NTP" in one.advice or not said


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Nov 9999999 00:00:00 GMT", "\x80", "0"])
async def test_a_date_that_is_none_says_nothing(date: str) -> None:
    async with serving(json.dumps({"keys": [KEY.jwk()]}).encode(), f"Date: {date}", "Age: old") as url:
        (found,) = await checked(public_certs=[url])
    assert (found.ok, found.message) == (True, "1 key")
