"""`flamecrest serve --workers 2` in front of the sandbox, with each HTTP server."""

from __future__ import annotations

import asyncio
import copy
import os
import random
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import yaml
from typer.testing import CliRunner

from flamecrest.cli.main import app
from flamecrest.sandbox.centre import Centre
from tests.unit.cli.serving.test_stop import FLAMECREST

pytestmark = pytest.mark.anyio

MINIMAL = Path(__file__).parents[2] / "settings" / "minimal.yaml"
SECONDS = 120  # for anything that must happen


class Running:
    """A gateway of two workers, asked over new connections: the system gives each to some worker."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, token: str) -> None:
        self.process = process
        self.token = token
        self._log = log

    def lines(self) -> list[dict[str, Any]]:
        found = []
        for line in self._log.read_bytes().splitlines():
            with suppress(orjson.JSONDecodeError):
                found.append(orjson.loads(line))
        return found

    def said(self, message: str) -> list[int]:
        """The workers that have logged this."""
        return [line["worker"] for line in self.lines() if message in line["message"] and "worker" in line]

    @property
    def url(self) -> str:
        text = self._log.read_text()
        return text.partition(" listens on ")[2].partition(" ")[0] if "2 workers" in text else ""

    def metrics(self) -> dict[int, str]:
        """Where each worker serves its metrics."""
        served = [line for line in self.lines() if line["message"] == "metrics are served"]
        return {line["worker"]: f"http://127.0.0.1:{line['port']}/metrics" for line in served}

    async def get(self, target: str, **query: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=SECONDS) as client:
            return await client.get(target, params=query or None)

    async def each_serves(self, target: str, **query: str) -> None:
        """Each worker answers with 200, while the other one is stopped and takes no connection."""
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)
            try:
                answer = await self.get(target, **query)
            finally:
                os.kill(pid, signal.SIGCONT)
            assert answer.status_code == 200, answer.text

    def pids(self) -> list[int]:
        """The processes of the workers."""
        pid = self.process.pid
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await holds():
            await asyncio.sleep(0.01)


def two_free_ports() -> int:
    """A port that is free, as the next one is. The system gives it to no connection: it is below those."""
    while True:
        port = random.randrange(20_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            socket.create_server(("127.0.0.1", port + 1)).close()
            return port


@asynccontextmanager
async def gateway(centre: Centre, config: Path, log: Path) -> AsyncIterator[Running]:
    argv = (FLAMECREST, "serve", "--config", str(config), "--port", "0", "--workers", "2")
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(*argv, stderr=out)
    running = Running(process, log, centre.token("fireuser"))

    async def listens() -> bool:
        assert process.returncode is None, log.read_text()
        return bool(running.url)

    try:
        await until(listens)
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.timeout(300)  # it starts three processes
@pytest.mark.parametrize("http", ["granian", pytest.param("uvicorn", marks=pytest.mark.exhaustive)])
async def test_workers_share_their_key_and_are_started_again_with_the_clusters_of_now(tmp_path: Path, http: str):
    async with Centre(tmp_path / "centre") as centre:
        file, config = tmp_path / "flamecrest.yaml", centre.config()
        config |= {
            "server": {"http": http},
            "metrics": {"port": two_free_ports()},
            "limits": {"users": [{"in_flight": 50}]},
        }
        file.write_text(yaml.safe_dump(config))
        big = centre.home("fireuser") / "big"
        big.write_bytes(b"x" * 1000)
        async with gateway(centre, file, tmp_path / "log") as running:
            body = {"path": str(big), "transferDirectives": {"transferMethod": "direct"}}
            headers = {"Authorization": f"Bearer {running.token}"}
            async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=SECONDS) as client:
                made = await client.post(f"{running.url}/filesystem/{centre.system}/transfer/download", json=body)
            assert made.status_code == 201, made.text
            url = made.json()["transferDirectives"]["downloadUrl"]
            await running.each_serves(url)

            other = {**copy.deepcopy(config["clusters"][0]), "name": "other"}
            file.write_text(yaml.safe_dump({**config, "clusters": [*config["clusters"], other]}))
            running.process.send_signal(signal.SIGHUP)
            await until(lambda: happened(lambda: {1, 2} <= set(running.said("configuration read again"))))
            stat = "/filesystem/other/ops/stat"
            await running.each_serves(stat, path=str(big))

            before = running.pids()
            os.kill(before[0], signal.SIGKILL)
            assert (await running.get(stat, path=str(big))).status_code == 200  # the other one goes on
            await until(lambda: happened(lambda: len(running.said("metrics are served")) == 3))
            assert before[1] in running.pids()
            await running.each_serves(stat, path=str(big))
            await running.each_serves(url)

            for url in running.metrics().values():
                async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client:
                    assert "flamecrest_http_requests_total{" in (await client.get(url)).text
            running.process.send_signal(signal.SIGUSR1)
            await until(lambda: happened(lambda: {1, 2} <= set(running.said("pool"))))
            running.process.terminate()
            assert await running.process.wait() == 0
        assert sorted(running.said("stopped")) == [1, 2]
        text = (tmp_path / "log").read_text()
        assert "limits are counted by each of the 2 workers" in text
        assert [line["pid"] for line in running.lines() if "ended by signal 9" in line["message"]] == before[:1]


async def happened(holds: Callable[[], bool]) -> bool:
    return holds()


def test_too_few_ports_for_the_metrics(tmp_path: Path) -> None:
    config = tmp_path / "flamecrest.yaml"
    config.write_text(MINIMAL.read_text() + "\nmetrics: {port: 65535}\n")
    found = CliRunner().invoke(app, ["serve", "--config", str(config), "--port", "0", "--workers", "2"])
    assert found.exit_code == 1
    assert "2 workers need the ports 65535 to 65536 for metrics: set a smaller metrics.port" in found.output
