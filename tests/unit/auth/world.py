"""Helpers of the authentication tests: a clock, forged tokens, a raw HTTP server, a search for leaked tokens."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unauthenticated

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Mapping

    from flamecrest.server.auth.port import Authenticator, Identity

AUDIENCE = "flamecrest"


@dataclass
class Clock:
    """A clock that is advanced by hand."""

    now: float = field(default_factory=time.time)

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


async def ask(authenticator: Authenticator, token: str, seconds: float = 60.0) -> Identity:
    return await authenticator.authenticate(f"Bearer {token}", Deadline.after(seconds))


def b64(value: bytes | Mapping[str, Any]) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(header: Mapping[str, Any], claims: Mapping[str, Any], sign: Callable[[bytes], bytes] | bytes) -> str:
    """A token of exactly these parts, with a computed or given signature."""
    text = f"{b64(header)}.{b64(claims)}"
    return f"{text}.{b64(sign if isinstance(sign, bytes) else sign(text.encode()))}"


def everything_said(error: BaseException) -> str:
    """All text that an error and its causes could write to the log."""
    said, seen, todo = [], set(), [error]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        said += [str(one), repr(one), repr(one.args), repr(vars(one)), repr(getattr(one, "__notes__", ""))]
        todo += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join(said)


def leaked(token: str, text: str) -> str:
    """A part of a token, of 12 characters or more, that occurs in a text; "" if there is none."""
    pieces = [piece for piece in token.replace(" ", ".").split(".") if len(piece) >= 12]
    for piece in pieces:
        for start in range(min(len(piece), 4096) - 11):
            if piece[start : start + 12] in text:
                return piece[start : start + 12]
    return ""


@asynccontextmanager
async def answering(
    *answers: bytes | Callable[[str], bytes], tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that sends these raw responses in turn (the last one repeatedly): its URL and the received requests.

    An answer may be made from the URL.
    """
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if b"content-length:" in line]
            received.append(head + await reader.readexactly(int(length[0]) if length else 0))
            answer = answers[min(len(received), len(answers)) - 1]
            writer.write(answer if isinstance(answer, bytes) else answer(url))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield url, received


def http_answer(body: bytes | str, status: str = "200 OK", *headers: str) -> bytes:
    raw = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(raw)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


async def refusal(gate: Authenticator, token: str, caplog: pytest.LogCaptureFixture) -> Unauthenticated:
    """The error for the token, after a check that neither it nor the log contains the token."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Unauthenticated) as caught:
        await ask(gate, token)
    error = caught.value
    assert error.public in {"Access token is invalid.", "Access token is expired.", "Not authenticated"}
    assert error.detail
    assert len(error.detail) < 200
    said = everything_said(error) + caplog.text + repr(gate)
    assert leaked(token, said) == ""
    return error
