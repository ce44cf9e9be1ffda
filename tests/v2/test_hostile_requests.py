"""Invalid and hostile requests: documents, headers, methods, paths, and truncated requests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import jwt
import pytest

from tests.openapi import openapi

from . import hostile_answers as answers
from .conftest import Api
from .hostile_operations import operations

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


OPERATIONS = operations(openapi())


def address(api: Api, path: str) -> str:
    return path.replace("{system_name}", api.system).replace("{job_id}", "4294900000")


async def spoken(api: Api, data: bytes, *, then_close: bool = False) -> bytes:
    """The gateway's response to these bytes, until it closes; empty if the client closes first."""
    port = int(api.url.rpartition(":")[2])
    with anyio.fail_after(answers.PATIENCE):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            said = b""
            try:
                await stream.send(data)
                if then_close:
                    return b""
                async for piece in stream:
                    said += piece
            except anyio.BrokenResourceError:
                pass  # the gateway closed before the rest was sent
            return said


def head(api: Api, line: str, *headers: str | bytes, token: bool = True) -> bytes:
    lines: list[bytes] = [line.encode("latin-1"), b"Host: gateway", b"Connection: close"]
    lines += [f"Authorization: Bearer {api.token}".encode()] * token
    lines += [one if isinstance(one, bytes) else one.encode("latin-1") for one in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def parsed(said: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one answer."""
    first, _, body = said.partition(b"\r\n\r\n")
    line, *rest = first.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
    return int(line.split()[1]), headers, body


DOCUMENTS = [
    b"", b" ", b"{", b"}", b"null", b"[]", b"[{}]", b"5", b"true", b'"x"', b"NaN", b'{"sourcePath": NaN}',
    b"\xff\xfe{}", b"\x00",
    b'{"sourcePath": "\xff"}', b'{"sourcePath":"\\ud800"}', b'{"sourcePath":"\\udc00\\ud800"}', b"\xef\xbb\xbf{}",
    b"{}{}",
    b'{"a":1,}', b"{'a':1}", b'{"sourcePath":"a"', b"[" * 100_000, b'{"a":' * 100_000, b'{"\\u0000":',
    b"\xed\xa0\x80", b"sourcePath=/x",
    "{}".encode("utf-16"), b'{"a": 1e999}', b"/**/{}", b"-", b'"' + b"\\" * 9999,
]  # fmt: skip


DECLARED = {"application/json", "multipart/form-data"}  # the other operations accept any bytes


# Bodies of all operations are read by the same function: the fast suite has some of each kind.
FEW = ("/ops/chmod", "/ops/upload", "/S/jobs", "/{job_id}", "/attach", "/transfer/cp", "/bulk/submit", "/bulk/rm")


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(one, id=one.id, marks=() if one.id.endswith(FEW) else pytest.mark.live)
        for one in OPERATIONS
        if one.media in DECLARED
    ],
)
async def test_invalid_documents(api: Api, http: httpx.AsyncClient, operation: Any) -> None:
    url = address(api, operation.path)
    query = {"path": api.home} if operation.of("query") else {}

    async def ask(case: tuple[bytes, str]) -> str | None:
        content, kind = case
        response = await http.request(
            operation.method, url, content=content, params=query, headers=[(b"content-type", kind.encode("latin-1"))]
        )
        wrong = answers.wrong_with(api, response)
        if wrong or response.status_code != 400:
            return f"{wrong} {response.status_code} {response.text[:200]}"
        places = {one["location"] for one in (response.json()["data"] or {"fields": []})["fields"]}
        return None if places in ({"body"}, {"header"}) else f"{places}"

    known = operation.media or ""
    valid = json.dumps({"sourcePath": api.home, "path": api.home}).encode()
    kinds = [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "json",
        "application/jsonx",
        "\xff",
        "multipart/form-data",
    ]
    kinds += [
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "b" * 5000,
        "application/json, text/html",
    ]
    _, wrong = await answers.ask_all([(one, known) for one in DOCUMENTS] + [(valid, kind) for kind in kinds], ask)
    assert not wrong, answers.summary(wrong)


async def test_documents_over_the_limit(api: Api, http: httpx.AsyncClient, work: str) -> None:
    large = json.dumps({"path": f"{work}/d", "more": "x" * 10_000_000}).encode()
    job = json.dumps({"job": {"workingDirectory": work, "script": "#!/bin/sh\n" + "#" * 17_000_000}}).encode()

    async def in_pieces(data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), 65536):
            yield data[start : start + 65536]

    for url, data in ((f"/filesystem/{api.system}/ops/mkdir", large), (f"/compute/{api.system}/jobs", job)):
        for content in (data, in_pieces(data)):
            response = await http.post(url, content=content, headers={"content-type": "application/json"})
            assert answers.wrong_with(api, response) is None
            assert response.status_code == 413, response.text
    assert await answers.listing(http, api, work) == {}


async def test_truncated_documents(api: Api, http: httpx.AsyncClient, work: str) -> None:
    """A request cut short by a disconnect has no effect, even if the received part looks complete."""
    whole = json.dumps({"path": f"{work}/made"}).encode()
    before = set(await answers.jobs(http, api, work))
    job = json.dumps({"job": {"workingDirectory": work, "script": "#!/bin/sh\n", "account": api.account}}).encode()
    kind = "Content-Type: application/json"
    for url, data in ((f"/filesystem/{api.system}/ops/mkdir", whole), (f"/compute/{api.system}/jobs", job)):
        line = f"POST {url} HTTP/1.1"
        for sent in (data, data[: len(data) // 2], b""):
            await spoken(api, head(api, line, kind, f"Content-Length: {len(data) + 10}") + sent, then_close=True)
        piece = b"%x\r\n%s\r\n" % (len(data), data)
        await spoken(api, head(api, line, kind, "Transfer-Encoding: chunked") + piece, then_close=True)
    with anyio.fail_after(30):  # the gateway has handled all of them once it has logged them
        while api.log.read_text("utf-8", "replace").count('"status":499') < 8:
            await anyio.sleep(0.02)
    assert await answers.listing(http, api, work) == {}
    assert not set(await answers.jobs(http, api, work)) - before


def is_no_http(said: bytes) -> bool:
    """Whether the response is the HTTP server's own refusal, which has no body: no HTTP, or a head that is too long."""
    status, headers, body = parsed(said)
    return status in {400, 414, 431} and body == b"" and headers["connection"] == "close"


LIES = [
    ("Content-Length: -1",), ("Content-Length: 1e3",), ("Content-Length: 0x10",), ("Content-Length: 5",
    "Content-Length: 6"),
    ("Content-Length: 99999999999999999999999999",), ("Content-Length: 5", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: gzip",), ("Transfer-Encoding: chunked, identity",), ("Transfer-Encoding: xchunked",),
    ("Content-Length : 5",), ("Content-Length: +5",), ("Content-Length:",),
]  # fmt: skip


@pytest.mark.parametrize("lies", LIES, ids=", ".join)
async def test_invalid_content_lengths(api: Api, http: httpx.AsyncClient, work: str, lies: tuple[str, ...]) -> None:
    """No request is smuggled in the body of another, and none is executed partially."""
    inner = head(api, f"DELETE /filesystem/{api.system}/ops/rm?path={work} HTTP/1.1")
    line = f"POST /filesystem/{api.system}/ops/mkdir HTTP/1.1"
    data = head(api, line, "Content-Type: application/json", *lies) + b"0\r\n\r\n" + inner
    data = data.replace(b"Connection: close", b"Connection: keep-alive", 1)
    port = int(api.url.rpartition(":")[2])
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(data)
        with anyio.move_on_after(2):
            said = await stream.receive()
            assert said.startswith(b"HTTP/1.1 4"), said[:200]
    assert (await http.get(f"/filesystem/{api.system}/ops/stat", params={"path": work})).status_code == 200


async def test_unsupported_methods(api: Api, http: httpx.AsyncClient) -> None:
    methods: dict[str, set[str]] = {}
    for operation in OPERATIONS:
        methods.setdefault(operation.path, set()).add(operation.method)

    async def ask(case: tuple[str, str]) -> str | None:
        method, path = case
        response = await http.request(method, address(api, path))
        if method in {"HEAD", "OPTIONS"}:
            return None if response.status_code < 500 else str(response.status_code)
        if response.headers.get("content-type") != "application/json" or not response.headers.get("f7t-appversion"):
            return f"{response.status_code} {response.headers}"
        body = response.json()
        return None if response.status_code == 405 and set(body) >= answers.KEYS else f"{response.status_code} {body}"

    names = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND"]
    cases = [(name, path) for path, known in methods.items() for name in names if name not in known]
    _, wrong = await answers.ask_all(cases, ask)
    assert not wrong, answers.summary(wrong)


TARGETS = [
    "//", "/.", "/..", "/%2e%2e/%2e%2e/etc/passwd", "/filesystem", "/filesystem/", "/filesystem/%00/ops/ls?path=/",
    "/filesystem/S%00/ops/ls?path=/", "/filesystem/..%2f..%2fstatus/ops/ls?path=/", "/filesystem/S/ops/",
    "/filesystem/S/ops",
    "/filesystem/S/ops/..%2ftransfer/rm?path=/", "/filesystem/S/ops/stat%00?path=/", "/filesystem/S//ops/stat?path=/",
    "/compute/S/jobs/%2e%2e", "/compute/S/jobs/1%2f2", "/compute/S/jobs/1%00", "/compute/S/jobs/1/metadata/x",
    "/compute/S/jobs/%ff", "/compute/S/jobs/\xff", "/compute/S/jobs/%", "/compute/S/jobs/%zz", "/compute/S/jobs/1;x=y",
    "/FILESYSTEM/S/ops/stat?path=/", "/filesystem/S/OPS/stat?path=/", "/status/S\\nodes", "/status/%53%00/nodes",
    "/status/$(id)/nodes", "/status/\u00e9/nodes", "/status/S/nodes%0d%0aX-Injected:%201", "/nosuch?path=/etc/passwd",
    "/filesystem/S/ops/stat?%00=1", "/filesystem/S/ops/stat?&&=&=%&path", "/filesystem/S/ops/stat?path=%zz",
    "/filesystem/S/ops/stat;path=/", "/static/../../etc/passwd", "/" + "a/" * 4000, "/" + "a" * 60_000,
    "/filesystem/S/ops/stat?" + "a=1&" * 15_000, "/filesystem/S/ops/stat?path=/" + "%41" * 300_000,
    "http://elsewhere/status/systems/x",
    "/filesystem/S/ops/stat?path=/x#fragment", "*",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_invalid_paths(api: Api, method: str) -> None:
    async def ask(target: str) -> str | None:
        target = target.replace("/S", f"/{api.system}")
        said = await spoken(api, head(api, f"{method} {target} HTTP/1.1", "Content-Length: 0"))
        if is_no_http(said):
            return None
        status, headers, body = parsed(said)
        if not 400 <= status < 500 or "x-injected" in headers:
            return f"{status} {headers}"
        return None if set(json.loads(body)) >= answers.KEYS else str(body)

    _, wrong = await answers.ask_all(TARGETS, ask)
    assert not wrong, answers.summary(wrong)


IDS = [
    b"x" * 129, b"x" * 10_000, b"x" * 60_000, b"a b", b"\xff\xfe", b"a\tb", b"<script>", b'{"a":1}', b"", b"a;b",
    b"a,b",
    b"$(id)", b"\xc2\x85", b"a\x0bb", "\u202e".encode(),
]  # fmt: skip


@pytest.mark.parametrize("name", ["X-Request-ID", "X-Correlation-ID"])
async def test_hostile_request_ids(api: Api, http: httpx.AsyncClient, name: str) -> None:
    for value in IDS:
        said = await spoken(api, head(api, "GET /status/systems HTTP/1.1", name.encode() + b": " + value))
        if is_no_http(said):
            continue
        status, headers, _ = parsed(said)
        assert status == 200
        assert headers[name.lower()].encode("latin-1") != value
        assert 0 < len(headers[name.lower()]) <= 128
    sane = "a-Z_0.9:/+=@"
    assert (await http.get("/status/systems", headers={name: sane})).headers[name] == sane


@pytest.mark.parametrize(
    "raw",
    [b"X-Request-ID: a\r\n X-Injected: 1", b"X-Request-ID: a\nX-Injected: 1", b"X-Request-ID: a\rX-Injected: 1",
     b"X-Request-ID: a\x00b", b"X-Request-ID : a", b": a", b"X-Request-ID", b"\x00: 1", b"X Y: 1",
     b"X-Request-ID: \x7f"],
)  # fmt: skip
async def test_invalid_headers(api: Api, raw: bytes) -> None:
    said = await spoken(api, head(api, "GET /status/systems HTTP/1.1", raw))
    status, headers, _ = parsed(said)
    assert status in {200, 400}
    assert "x-injected" not in headers


def other_tokens(api: Api) -> list[str]:
    """Well-formed but invalid tokens."""
    first, claims, signature = api.token.split(".")
    own = jwt.decode(api.token, options={"verify_signature": False})
    none = jwt.encode(own, "", algorithm="none")
    forged = jwt.encode(own, "s" * 32, algorithm="HS256", headers={"kid": jwt.get_unverified_header(api.token)["kid"]})
    flipped = f"{first}.{claims[:-4]}{claims[-4:].swapcase()}.{signature}"
    return [
        none,
        forged,
        flipped,
        f"{first}.{claims}.",
        f"{first}.{claims}",
        api.token + ".x",
        api.token[:-8] + "A" * 8,
    ]


async def test_invalid_credentials_give_401(api: Api, http: httpx.AsyncClient) -> None:
    """401 precedes all other checks, and the response never echoes the request."""
    token = api.token
    forms = [
        "",
        "Bearer",
        "Bearer ",
        "Bearer null",
        f"Basic {token}",
        token,
        f"Bearer {token} x",
        f'Bearer "{token}"',
        "bearer",
    ]
    forms += [f"Bearer {one}" for one in other_tokens(api)]
    forms += [
        "Bearer " + "x" * 50_000,
        "Bearer " + "a." * 20_000,
        "Bearer \xff\xfe",
        "Bearer ..",
        "Bearer a.b.c",
        f"Token {token}",
    ]
    forms += [f"Bearer {token},Bearer {token}", "Digest a=b", "Bearer $(id)", f"Bearer\x0b{token}"]

    async def ask(form: str) -> str | None:
        line = f"POST /compute/{api.system}/jobs HTTP/1.1"
        said = await spoken(
            api, head(api, line, f"Authorization: {form}", "Content-Type: x/y", "Content-Length: 0", token=False)
        )
        if is_no_http(said):
            return None
        status, headers, body = parsed(said)
        if (
            status != 401
            or not headers.get("www-authenticate", "").startswith("Bearer ")
            or json.loads(body)["user"] is not None
        ):
            return f"{status} {headers} {body[:200]!r}"
        shown = said.decode("latin-1")
        return "an echo" if any(len(word) > 12 and word in shown for word in form.split()) else None

    _, wrong = await answers.ask_all(forms, ask)
    assert not wrong, answers.summary(wrong)
    line = "GET /status/systems HTTP/1.1"
    twice = await spoken(api, head(api, line, f"Authorization: Bearer {token}"))
    assert parsed(twice)[0] in {400, 401}
    for operation in OPERATIONS:
        if operation.path.startswith("/status/liveness"):
            continue
        response = await http.request(
            operation.method, address(api, operation.path), headers={"Authorization": "Bearer x"}
        )
        assert response.status_code == 401, operation.id
    answers.no_secret_in_log(api, *other_tokens(api))


async def test_many_headers_and_no_headers(api: Api) -> None:
    line = "GET /status/liveness/ HTTP/1.1"
    many = await spoken(api, head(api, line, *(f"X-{number}: {number}" for number in range(2000))))
    assert parsed(many)[0] in {200, 400, 431}
    huge = await spoken(api, head(api, line, "X-Huge: " + "x" * 5_000_000))
    assert not huge or parsed(huge)[0] in {200, 400, 431}
    for data in (b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"SSH-2.0-x\r\n"):
        said = await spoken(api, data + b"\r\n\r\n")
        assert not said or said.startswith(b"HTTP/1.1 4")
    assert parsed(await spoken(api, head(api, line)))[0] == 200
