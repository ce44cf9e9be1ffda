"""The gateway and its login node of these tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import yaml

from flamecrest.sandbox.centre import Centre
from tests.live.process import free_port, gateway

from .place import ONE, SIZE, USERS, Place


@pytest.fixture
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """The parameter: further settings, by section."""
    async with Centre(tmp_path / "centre", users=USERS, max_sessions=2) as centre:
        settings, port = centre.config(), free_port()
        settings |= {"metrics": {"port": port}, **getattr(request, "param", {})}
        settings["clusters"][0]["ssh"]["max_connections_per_user"] = 1
        config = tmp_path / "flamecrest.yaml"
        config.write_text(yaml.safe_dump(settings))
        for user in USERS:
            with (centre.home(user) / "large").open("wb") as file:
                file.truncate(SIZE)
        (centre.home(ONE) / ".bashrc").write_text("sleep 0.3\n")  # so each command takes as long on every machine
        centre.ssh.faults.rc_files = True
        starting = gateway(config, tmp_path / "gateway.log")
        server = await asyncio.to_thread(starting.__enter__)
        limits = httpx.Limits(max_connections=None)
        try:
            async with httpx.AsyncClient(limits=limits, timeout=120, trust_env=False, verify=False) as http:
                yield Place(centre, server.url, server.pid, f"http://127.0.0.1:{port}/metrics", http)
        finally:
            await asyncio.to_thread(starting.__exit__, None, None, None)
