"""Hostile uploads: invalid forms, invalid names, truncated forms. None of them leaves a file."""

from __future__ import annotations

import os

import anyio
import httpx
import pytest

from . import hostile_answers as answers
from .conftest import Api
from .hostile_operations import BOUNDARY, form, quoted

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

KIND = f"multipart/form-data; boundary={BOUNDARY}"


def part(disposition: bytes, data: bytes = b"data", more: bytes = b"") -> bytes:
    line = b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition: " + disposition + b"\r\n" + more
    return line + b"\r\n" + data + b"\r\n--" + BOUNDARY.encode() + b"--\r\n"


def url(api: Api, work: str) -> str:
    return f"/filesystem/{api.system}/ops/upload?path={quoted(work)}"


def plain(name: bytes) -> bytes:
    return part(b'form-data; name="file"; filename="' + name + b'"')


def extended(name: bytes) -> bytes:
    return part(b"form-data; name=\"file\"; filename*=UTF-8''" + b"".join(b"%%%02X" % byte for byte in name))


NO_NAMES = [
    b"", b".", b"..", b"../x", b"a/b", b"/etc/passwd", b"/", b"x/", b"a\0b", b"\0", b"n" * 256, b"n" * 300,
    "\u00e9".encode() * 128,
    b"../" * 1000 + b"x",
]  # fmt: skip


async def test_invalid_file_names(api: Api, http: httpx.AsyncClient, work: str) -> None:
    async def ask(body: bytes) -> str | None:
        response = await http.post(url(api, work), content=body, headers={"content-type": KIND})
        wrong = answers.wrong_with(api, response)
        if wrong or response.status_code != 400 or answers.named(response) != {"file"}:
            return f"{wrong} {response.status_code} {response.text[:200]}"
        return None

    number, wrong = await answers.ask_all([make(name) for name in NO_NAMES for make in (plain, extended)], ask)
    assert not wrong, answers.summary(wrong)
    assert number == 2 * len(NO_NAMES)
    assert await answers.listing(http, api, work) == {}


BROKEN = [
    b"", b"x", b"--", b"--" + BOUNDARY.encode(), b"--" + BOUNDARY.encode() + b"--\r\n", part(b""),
    part(b"attachment"), part(b"form-data"),
    part(b'form-data; name="file"'), part(b'form-data; filename="x"'), part(b'form-data; name="File"; filename="x"'),
    part(b'form-data; name="other"; filename="x"'), part(b'form-data; name="file"; filename="x"; filename="y"'),
    part(b'form-data; name="file"; filename="x'), part(b"form-data; name=\"file\"; filename*=ebcdic''x"),
    part(b'form-data; name="file"; filename="x"').replace(BOUNDARY.encode(), b"other"),
    part(b'form-data; name="file"; filename="x"')[: -len(BOUNDARY) - 6],
    part(b'form-data; name="file"; filename="x"').replace(b"\r\n\r\n", b"\r\n"),
    part(b'form-data; name="file"; filename="x"', more=b"X-Long: " + b"x" * 50_000 + b"\r\n"),
    part(b'form-data; name="file"; filename="x"', more=b"broken\r\n"),
    form(("file", "one", b"1"), ("file", "two", b"2")),
    form(("file", "one", b"1" * 200_000), ("file", "two", b"2")),
    form(("other", "x", b"x" * 2_000_000), ("file", "one", b"1")),
    form(*[("other", "x", b"")] * 20_000, ("file", "one", b"1")),
    b"\r\n" * 500_000, b"--" * 500_000,
]  # fmt: skip


async def test_invalid_forms(api: Api, http: httpx.AsyncClient, work: str) -> None:
    async def ask(body: bytes) -> str | None:
        response = await http.post(url(api, work), content=body, headers={"content-type": KIND})
        wrong = answers.wrong_with(api, response)
        if wrong or response.status_code not in {400, 413}:
            return f"{wrong} {response.status_code} {response.text[:200]}"
        return None if response.status_code == 413 or answers.named(response) == {"file"} else response.text[:200]

    _, wrong = await answers.ask_all(BROKEN, ask)
    assert not wrong, answers.summary(wrong)
    assert await answers.listing(http, api, work) == {}


async def test_disconnect_during_a_form(api: Api, http: httpx.AsyncClient, work: str) -> None:
    """The client disconnects at every position: the old file is unchanged, and no temporary file is left."""
    old = form(("file", "x", b"the old one"))
    assert (await http.post(url(api, work), content=old, headers={"content-type": KIND})).status_code == 204
    whole = form(("file", "x", b"the new one" * 50_000))
    ends = [
        0,
        10,
        len(BOUNDARY) + 30,
        200,
        40_000,
        len(whole) // 2,
        len(whole) - len(BOUNDARY) - 9,
        len(whole) - 3,
        len(whole),
    ]
    port = int(api.url.rpartition(":")[2])
    gone = api.log.read_text("utf-8", "replace").count('"status":499')
    for at in ends:
        for length in (f"Content-Length: {len(whole) + 100}", "Transfer-Encoding: chunked"):
            lines = [f"POST {url(api, work)} HTTP/1.1", "Host: x", f"Authorization: Bearer {api.token}", length]
            data = "\r\n".join([*lines, f"Content-Type: {KIND}", "", ""]).encode()
            data += (b"%x\r\n" % (at + 1) if "chunked" in length else b"") + whole[:at]
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(data)
    with anyio.fail_after(40):
        while api.log.read_text("utf-8", "replace").count('"status":499') < gone + 2 * len(ends):
            await anyio.sleep(0.02)
        while len(await answers.listing(http, api, work)) > 1:  # the temporary file is removed after that
            await anyio.sleep(0.02)
    assert await answers.listing(http, api, work) == {"x": "11"}


async def test_truncated_form_in_a_complete_request(api: Api, http: httpx.AsyncClient, work: str) -> None:
    """The request is complete, the form is not."""
    whole = form(("file", "x", b"data" * 10_000))
    for at in range(len(whole) - len(BOUNDARY) - 8, len(whole) - 4):
        response = await http.post(url(api, work), content=whole[:at], headers={"content-type": KIND})
        assert response.status_code == 400, at
        assert answers.named(response) == {"file"}
    assert await answers.listing(http, api, work) == {}


LEGAL = [
    b"n" * 255,
    b"-rf",
    b"$(touch x)",
    b"a\\b",
    b"it's",
    b"~",
    b" ",
    b"a b.",
    b"\xff\xfe",
    b"\x01\x7f\x1b[31m",
    b"...",
    b"#",
    b"%41",
]


async def test_unusual_valid_file_names(api: Api, http: httpx.AsyncClient, work: str) -> None:
    for name in LEGAL:
        made = await http.post(url(api, work), content=extended(name), headers={"content-type": KIND})
        assert made.status_code == 204, (name, made.text)
        path = quoted(f"{work}/{os.fsdecode(name)}")
        back = await http.get(f"/filesystem/{api.system}/ops/download?path={path}")
        assert back.content == b"data", name
        assert (await http.delete(f"/filesystem/{api.system}/ops/rm?path={path}")).status_code == 204
    assert await answers.listing(http, api, work) == {}
