"""An introspection endpoint whose answer depends on the token, and which holds back those that begin with `held`."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from tests.unit.auth.world import AUDIENCE, http_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

JSON = "Content-Type: application/json"


def active(**claims: Any) -> bytes:
    """The answer about a token of `ann`."""
    known = {"active": True, "token_type": "Bearer", "aud": AUDIENCE, "preferred_username": "ann"}
    return http_answer(json.dumps(known | {"exp": time.time() + 3600} | claims), "200 OK", JSON)


class Endpoint:
    """Knows the tokens in `answers`; others are not active. `asked` counts questions, `held` has those held back."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.order: list[str] = []
        self.held: dict[str, asyncio.Event] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(one[15:]) for one in head.lower().split(b"\r\n") if one.startswith(b"content-length:"))
            token = parse_qs((await reader.readexactly(length)).decode())["token"][0]
            self.asked[token] += 1
            self.order.append(token)
            if token.startswith("held"):
                await self.held.setdefault(token, asyncio.Event()).wait()
            writer.write(self.answers.get(token) or http_answer('{"active": false}', "200 OK", JSON))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def release(self) -> None:
        """Answer all that is held back now."""
        for event in self.held.values():
            event.set()


@asynccontextmanager
async def endpoint() -> AsyncIterator[Endpoint]:
    """A running endpoint."""
    found = Endpoint()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/introspect"
    async with server:
        try:
            yield found
        finally:
            found.release()
