"""A gateway whose users log in by certificates: each cluster with a source of its own, and what its callers see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest
import yaml

import flamecrest.server.wiring.gateway  # noqa: F401 - before the guard of blocking calls is active
from flamecrest.sandbox.centre import Centre
from flamecrest.server.app import create_app
from flamecrest.server.settings import load
from tests.key_service import KeyService, key_service

pytestmark = pytest.mark.anyio

USER = "fireuser"


@asynccontextmanager
async def serve(path: Path, config: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    await asyncio.to_thread(path.write_text, yaml.safe_dump(config))
    app = create_app(await asyncio.to_thread(load, path, {}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=60) as client:
            yield client


@pytest.fixture
async def centre(tmp_path: Path) -> AsyncIterator[Centre]:
    async with Centre(tmp_path / "centre") as running:
        running.ssh.keys.clear()  # certificates alone are accepted
        yield running


@pytest.fixture
async def service(centre: Centre) -> AsyncIterator[KeyService]:
    async with key_service() as running:
        running.authority = centre.authority
        running.users.clear()
        yield running


def clusters(centre: Centre, service: KeyService, folder: Path) -> dict[str, Any]:
    """Three clusters at one login node: SSHService, SSHCA, and certificates of the gateway's own."""
    key, config = folder / "ssh_ca", centre.config()
    key.write_bytes(centre.authority.export_private_key())
    config["ssh_credentials"] = {"type": "SSHService", "url": service.url}
    (first,) = config["clusters"]
    ca, own = deepcopy(first), deepcopy(first)
    ca |= {"name": "ca", "ssh_credentials": {"type": "SSHCA", "url": f"{service.url}/ca"}}
    signing = [{"type": "file", "private_key": f"secret_file:{key}"}]
    own |= {"name": "own", "ssh_credentials": {"type": "SSHCertificates", "signing_keys": signing}}
    first["name"] = "service"
    config["clusters"] = [first, ca, own]
    return config


def stat(centre: Centre, cluster: str) -> str:
    return f"/filesystem/{cluster}/ops/stat?path={centre.root}/home/{USER}"


async def test_each_cluster_has_its_source_of_credentials(centre: Centre, service: KeyService, tmp_path: Path) -> None:
    token = centre.token(USER)
    service.users[token] = USER
    async with serve(tmp_path / "gateway.yaml", clusters(centre, service, tmp_path)) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        for name in ("service", "ca", "own"):
            answer = await client.get(stat(centre, name))
            assert answer.status_code == 200, answer.text
        assert service.requests == {token: 2}  # the caller's own token, once for each service
        assert [sorted(body) for body in service.bodies] == [["duration", "username"], ["OTT", "PublicKey"]]
        await service.stop()
        for name in ("service", "ca", "own"):  # connected users notice nothing
            assert (await client.get(stat(centre, name))).status_code == 200


async def test_the_audit_names_the_certificate(centre: Centre, service: KeyService, tmp_path: Path) -> None:
    """Of commands and of SFTP."""
    log, token = tmp_path / "audit.jsonl", centre.token(USER)
    service.users[token] = USER
    config = clusters(centre, service, tmp_path) | {"audit": {"file": str(log)}}
    async with serve(tmp_path / "gateway.yaml", config) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        home = f"{centre.root}/home/{USER}"
        made = await client.post("/filesystem/service/ops/mkdir", json={"path": f"{home}/new"})
        assert made.status_code == 201, made.text
        copied = await client.post(
            "/filesystem/service/ops/cp", json={"path": f"{home}/new", "targetPath": f"{home}/copy"}
        )
        assert copied.is_success, copied.text
    lines = [json.loads(line) for line in (await asyncio.to_thread(log.read_text)).splitlines()]
    assert [line["certificate_serial"] for line in lines if line["event"] == "call"] == ["1", "1"]


async def test_what_callers_are_told_of_a_source_that_fails(
    centre: Centre, service: KeyService, tmp_path: Path
) -> None:
    async with serve(tmp_path / "gateway.yaml", clusters(centre, service, tmp_path)) as client:
        client.headers["Authorization"] = f"Bearer {centre.token(USER)}"
        for name in ("service", "ca"):
            refused = await client.get(stat(centre, name))
            assert (refused.status_code, "issues no key for this user" in refused.text) == (403, True), refused.text
        await service.stop()
        client.headers["Authorization"] = f"Bearer {centre.token(USER, jti='another')}"
        for name in ("service", "ca"):
            down = await client.get(stat(centre, name))
            assert (down.status_code, "does not answer" in down.text) == (503, True), down.text
            assert int(down.headers["Retry-After"]) >= 1
        assert (await client.get(stat(centre, "own"))).status_code == 200


async def test_a_node_that_does_not_trust_the_authority(centre: Centre, service: KeyService, tmp_path: Path) -> None:
    centre.ssh.authorities = {asyncssh.generate_private_key("ssh-ed25519").public_data}
    async with serve(tmp_path / "gateway.yaml", clusters(centre, service, tmp_path)) as client:
        client.headers["Authorization"] = f"Bearer {centre.token(USER)}"
        refused = await client.get(stat(centre, "own"))
        assert (refused.status_code, "did not accept the SSH credentials" in refused.text) == (424, True), refused.text
