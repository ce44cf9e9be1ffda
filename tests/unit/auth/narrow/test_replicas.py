"""Narrow tokens in several processes that share the folder: uses are counted once, and a revocation counts at once."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from flamecrest.server.auth.narrow.restriction import Restriction
from flamecrest.server.auth.narrow.store import TokenFolder
from flamecrest.server.auth.narrow.tokens import NarrowTokens
from flamecrest.server.auth.port import Identity, Verb

pytestmark = pytest.mark.anyio

ANN = Identity("ann", "sub-1", "https://id.example.org", "portal")
KEY = b"k" * 32

REPLICA = """
import asyncio, json, sys
from pathlib import Path
from flamecrest.server.auth.narrow.store import TokenFolder
from flamecrest.server.auth.narrow.tokens import NarrowTokens
from flamecrest.server.errors import Unauthenticated
async def main():
    tokens = NarrowTokens(TokenFolder(Path(sys.argv[1])), b"k" * 32, longest=3600, most=5)
    for line in sys.stdin:  # a token and a number of requests
        token, count = json.loads(line)
        asked = (tokens.identity(token) for _ in range(count))
        ended = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(one, Unauthenticated) for one in ended if isinstance(one, BaseException)), ended
        print(sum(not isinstance(one, BaseException) for one in ended), flush=True)
asyncio.run(main())
"""


class Replica:
    """A process that is given tokens."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def accepted(self, token: str, count: int) -> int:
        """How many of so many requests with the token at once were accepted."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([token, count]).encode() + b"\n")
        async with asyncio.timeout(50):
            return int(await self.process.stdout.readline())

    async def end(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert await self.process.wait() == 0


async def test_several_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", REPLICA, str(tmp_path)]
    pipe = asyncio.subprocess.PIPE
    replicas = [Replica(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)) for _ in range(2)]
    tokens = NarrowTokens(TokenFolder(tmp_path), KEY, longest=3600, most=5)
    made, counted = await tokens.issue(ANN, Restriction(frozenset(Verb)), life=600, uses=150, description="")
    for _ in range(3):  # 40 requests at once
        await asyncio.gather(*(one.accepted(counted, 20) for one in replicas))
    assert [one.used for one in await tokens.owned(ANN)] == [120]
    got = await asyncio.gather(*(one.accepted(counted, 50) for one in replicas))
    assert sum(got) == 30
    assert [one.used for one in await tokens.owned(ANN)] == [150]

    again, revoked = await tokens.issue(ANN, Restriction(frozenset(Verb)), life=600, uses=None, description="")
    assert [await one.accepted(revoked, 1) for one in replicas] == [1, 1]
    await tokens.revoke(ANN, again.id)
    assert [await one.accepted(revoked, 5) for one in replicas] == [0, 0]
    assert made.id != again.id
    for one in replicas:
        await one.end()
