"""AiiDA's FirecREST plugin, unchanged, on the real cluster: its transport, its scheduler, a calculation by both."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from flamecrest.sandbox.issuer import Issuer

from .process import ROOT, Server
from .site import Site

STEPS = {
    "computer is configured",
    "computer is tested",
    "transport and user",
    "one file there and back",
    "checksums are compared",
    "put and get choose by kind",
    "trees file by file",
    "trees as archives",
    "folders are made",
    "listings",
    "path kinds",
    "modes change",
    "copies by jobs",
    "renames by jobs",
    "removals",
    "from computer to computer",
    "twenty files at once",
    "missing paths",
    "unsupported by the plugin",
    "job runs to its end",
    "job is killed",
    "unknown job is no error",
    "job that fails",
    "job that slurm refuses",
    "calculation by the engine",
}


@pytest.fixture
def work(site: Site, live_gateway: Server, live_token: Callable[..., str]) -> Iterator[str]:
    """An empty folder on the cluster."""
    path = f"{site.home(site.user)}/AiiDA's {secrets.token_hex(4)} ü"
    headers = {"Authorization": f"Bearer {live_token(site.user)}"}
    with httpx.Client(
        base_url=f"{live_gateway.url}/filesystem/{site.system}/ops", headers=headers, trust_env=False
    ) as client:
        assert client.post("/mkdir", json={"path": path}).status_code == 201
        yield path
        assert client.delete("/rm", params={"path": path}).status_code == 204


@pytest.mark.timeout(480)
def test_plugin_transport_scheduler_and_calculation(
    site: Site, live_gateway: Server, live_issuer: Issuer, aiida_python: Path, work: str, tmp_path: Path
) -> None:
    client = f"{site.user}-client"
    secret = live_issuer.clients[client][0]
    kept = tmp_path / "kept"
    kept.touch(mode=0o600)
    kept.write_text(secret, encoding="utf-8")
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AIIDA_PATH": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "NO_PROXY": "*",
        "FIRECREST_URL": live_gateway.url,
        "FIRECREST_TOKEN_URL": live_issuer.token_url,
        "FIRECREST_CLIENT_ID": client,
        "FIRECREST_SECRET_FILE": str(kept),
        "FIRECREST_SYSTEM": site.system,
        "FIRECREST_WORK": work,
        "FIRECREST_ACCOUNT": site.account,
    }
    logged = live_gateway.log.stat().st_size
    argv = [str(aiida_python), "-m", "tests.live.aiida.drive"]
    done = subprocess.run(argv, cwd=ROOT, env=environ, check=False, capture_output=True, text=True, timeout=450)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert set(re.findall(r"^ok ([a-z ]+)(?::| \()", done.stdout, re.MULTILINE)) == STEPS
    assert "ok calculation by the engine: 17 + 25 = 42, job" in done.stdout.splitlines()[-2]
    assert done.stdout.splitlines()[-1] == "all steps succeeded"
    assert secret not in said
    _nothing_broke(live_gateway.log.read_bytes()[logged:].decode())


def _nothing_broke(log: str) -> None:
    lines = [line for line in log.splitlines() if re.search(r'"status": ?5\d\d|"level": ?"(ERROR|CRITICAL)"', line)]
    assert lines == []
    assert re.search(r'"status": ?200', log)
