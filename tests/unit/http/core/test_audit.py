"""What the audit log says of calls: who, from where, what, how it was decided and how it ended."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from flamecrest.server.audit.calls import LONGEST, MOST_DECISIONS, MOST_TARGETS, Audit
from flamecrest.server.audit.chain import Chain, verify
from flamecrest.server.audit.destinations import FileDestination
from flamecrest.server.audit.writer import MOST_WAITING, AuditWriter
from flamecrest.server.auth.port import Identity, RequestProof, Verb
from flamecrest.server.cluster import Cluster, Gateway
from flamecrest.server.deadline import Deadline
from flamecrest.server.telemetry.trace import Trace
from tests.unit.http.toy_ports import Tokens
from tests.unit.http.world import World

pytestmark = pytest.mark.anyio

CLAIMS = {"jti": "token-7", "secret": "never logged"}


class RichTokens(Tokens):
    """Tokens with all claims."""

    async def authenticate(
        self, authorization: str | None, deadline: Deadline, proof: Callable[[], RequestProof] | None = None
    ) -> Identity:
        caller = await super().authenticate(authorization, deadline, proof)
        return replace(caller, subject="s", issuer="https://id", client="portal", claims=CLAIMS, token="eyJsecret")


class Audited(World):
    """A world with an audit log in a file."""

    def __init__(self, root: Path, *, reads: bool = False) -> None:
        self.file = root / "audit"
        self.writer = AuditWriter([FileDestination(self.file)], Chain)
        self.audit = Audit(self.writer, reads=reads)
        super().__init__(str(root))
        self.gateway = replace(self.gateway, audit=self.audit, authenticator=RichTokens())

    def _cluster(self) -> Cluster:
        return Cluster(
            "Toy",
            roots=[self.root],
            limits=self.limits,
            ports=self.ports(),
            board=self.board,
            describe=self.describe,
            authorizer=self.rules,
            audit=self.audit,
        )

    @asynccontextmanager
    async def context(self) -> AsyncIterator[Gateway]:
        async with self.writer:
            yield self.gateway

    def lines(self) -> list[dict[str, Any]]:
        """The records of calls; the log is whole."""
        lines = self.file.read_bytes().splitlines(keepends=True)
        assert verify(("", line) for line in lines).problems == []
        return [json.loads(line) for line in lines][1:-1]


def mkdir(client: httpx.AsyncClient, path: str) -> httpx.Request:
    return client.build_request("POST", "/filesystem/toy/ops/mkdir", json={"path": path})


async def test_a_change(tmp_path: Path) -> None:
    world = Audited(tmp_path)
    async with world.client() as client:
        response = await client.send(mkdir(client, str(tmp_path / "new")))
    (line,) = world.lines()
    assert response.status_code == 201
    for name in ("chain", "seq", "prev", "hash", "ts"):
        assert line.pop(name)
    assert line == {
        "event": "call",
        "request_id": response.headers["x-request-id"],
        "correlation_id": response.headers["x-correlation-id"],
        "from": "127.0.0.1",
        "user": "fireuser",
        "subject": "s",
        "issuer": "https://id",
        "client": "portal",
        "token_id": "token-7",
        "method": "POST",
        "route": "/filesystem/{system_name}/ops/mkdir",
        "cluster": "Toy",
        "decisions": [
            {
                "verb": "files:write",
                "cluster": "Toy",
                "paths": [str(tmp_path / "new")],
                "allowed": True,
                "rule": line["decisions"][0]["rule"],
                "reason": line["decisions"][0]["reason"],
            }
        ],
        "status": 201,
        "error": None,
        "reason": None,
        "certificate_serial": None,
    }


async def test_reading_is_not_recorded(tmp_path: Path) -> None:
    for reads in (False, True):
        folder = tmp_path / str(reads)
        folder.mkdir()
        world = Audited(folder, reads=reads)
        async with world.client() as client:
            await client.get("/filesystem/toy/ops/stat", params={"path": str(folder)})
            await client.get("/status/liveness")
            await client.get("/filesystem/toy/ops/nothing")
        assert [line["route"] for line in world.lines()] == ["/filesystem/{system_name}/ops/stat"] * reads


async def test_denials(tmp_path: Path) -> None:
    world = Audited(tmp_path)
    world.rules.forbidden = {("fireuser", Verb.FILES_READ)}
    async with world.client() as client:
        await client.get("/status/systems", headers={"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."})
        await client.get("/filesystem/toy/ops/stat", params={"path": str(tmp_path)})
        await client.put("/filesystem/toy/transfer/parts/x/1", content=b"")
    unknown, forbidden, signed = world.lines()
    assert {line["event"] for line in (unknown, forbidden, signed)} == {"denial"}
    assert (unknown["status"], unknown["user"], unknown["decisions"], unknown["reason"]) == (
        401,
        None,
        [],
        "unknown token",
    )
    assert (forbidden["status"], forbidden["user"], forbidden["decisions"][0]["allowed"]) == (403, "fireuser", False)
    assert forbidden["decisions"][0]["paths"] == [str(tmp_path)]
    assert (signed["status"], signed["user"]) == (403, None)
    assert b"eyJ" not in world.file.read_bytes()
    assert b"never logged" not in world.file.read_bytes()


async def test_a_change_that_fails(tmp_path: Path) -> None:
    world = Audited(tmp_path)
    async with world.client() as client:
        await client.send(mkdir(client, str(tmp_path / "no" / "such")))
        await client.send(mkdir(client, "relative"))
        await client.post("/filesystem/toy/ops/mkdir", json={"wrong": 1})  # nothing was decided
    assert [(line["event"], line["status"], line["error"]) for line in world.lines()] == [
        ("call", 404, "NotFound"),
        ("call", 400, "Invalid"),
    ]


HOSTILE = [
    'x"}\n{"event":"call"}',
    "\x1b]0;title\x07",
    "\u202etxt.exe",
    "e\u0301\u0430",
    "%00",
    "a" * 3000,
    "eyJhbGciOiJub25l.e",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_paths(tmp_path: Path, name: str) -> None:
    world = Audited(tmp_path)
    async with world.client() as client:
        await client.send(mkdir(client, f"{tmp_path}/{name}"))
    (line,) = world.lines()
    assert world.file.read_bytes().isascii()
    (path,) = line["decisions"][0]["paths"]
    assert len(path) < LONGEST + 50
    assert path.startswith(str(tmp_path))


async def test_many_targets(tmp_path: Path) -> None:
    world = Audited(tmp_path)
    paths = [f"{tmp_path}/{number}" for number in range(200)]
    async with world.client() as client:
        await client.post("/filesystem/toy/bulk/mkdir", json={"items": [{"path": path} for path in paths]})
        await client.post("/compute/toy/bulk/cancel", json={"jobIds": [str(number) for number in range(200)]})
    many, cancelled = world.lines()
    assert len(json.dumps(many)) < 64 * 1024
    assert many["decisions_count"] > MOST_DECISIONS == len(many["decisions"])
    assert many["decisions"][1]["paths"] == [paths[0]]
    assert len(cancelled["decisions"][0]["jobs"]) == MOST_TARGETS
    assert cancelled["decisions"][0]["jobs_count"] == 200


async def test_a_change_that_nobody_decides(tmp_path: Path) -> None:
    world = Audited(tmp_path)
    async with world.writer:
        for decisions in (None, list[Any]()):
            trace = Trace("id", "id", "POST", status=201, detail="made the token t", decisions=decisions)
            world.audit.ended(trace, "192.0.2.1")
    (line,) = world.lines()
    assert (line["event"], line["from"], line["decisions"]) == ("call", "192.0.2.1", [])
    assert line["reason"] == "made the token t"


async def test_nothing_is_changed_that_cannot_be_recorded(tmp_path: Path) -> None:
    world = Audited(tmp_path)
    world.file = tmp_path / "folder" / "audit"
    world.writer = AuditWriter([FileDestination(world.file)], Chain)
    world.audit._writer = world.writer
    async with world.client() as client:
        for _ in range(MOST_WAITING + 1):
            world.writer.add({"event": "call"})
        refused = await client.send(mkdir(client, str(tmp_path / "new")))
        read = await client.get("/filesystem/toy/ops/stat", params={"path": str(tmp_path)})
        world.file.parent.mkdir()
    assert (refused.status_code, read.status_code) == (503, 200)
    assert not (tmp_path / "new").exists()
    assert world.lines()[-1]["status"] == 503
