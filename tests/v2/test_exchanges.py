"""All recorded exchanges with a FirecREST v2 server, replayed through the real gateway, SSH server and Slurm."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import httpx
import pytest

from tests.contract import exchanges

from .conftest import Api

pytestmark = pytest.mark.timeout(120)
EXCHANGES = exchanges.load()


class Replay:
    """Maps the recording to this cluster: its folder, and its job ids."""

    def __init__(self, api: Api, client: httpx.AsyncClient) -> None:
        self.api = api
        self.client = client
        self.work = f"{api.home}/work"
        self.jobs: dict[str, str] = {}
        self.responses: dict[str, httpx.Response] = {}

    def rename(self, text: str) -> str:
        text = text.replace(exchanges.SYSTEM, self.api.system).replace("/home/", self.api.home.rpartition("/")[0] + "/")
        text = text.replace(exchanges.USER, self.api.user)
        for recorded, ours in self.jobs.items():
            text = text.replace(f"/jobs/{recorded}", f"/jobs/{ours}")
        return text

    async def before(self, case: str) -> None:
        """Do the steps that the recording made before this exchange."""
        match case:
            case "mkdir":
                await self.client.delete(f"/filesystem/{self.api.system}/ops/rm", params={"path": self.work})
            case "symlink":
                lines = "".join(f"line {number}\n" for number in range(1, 101)).encode()
                for name, data in {"lines.txt": lines, "empty": b"", ".hidden": b".", "bin.dat": bytes(1024)}.items():
                    await self.post("upload", params={"path": self.work}, files={"file": (name, data)})
                link = {"path": f"{self.work}/nowhere", "linkPath": f"{self.work}/dang"}
                await self.post("symlink", json=link)
            case "extract":
                await self.post("mkdir", json={"path": f"{self.work}/ex"})
            case "job.get.done":
                await self.until("315", "COMPLETED")
            case "job.get.running":
                job = {"name": "twin-long", "workingDirectory": self.work, "script": "#!/bin/bash\nsleep 100\n"}
                answer = await self.client.post(f"/compute/{self.api.system}/jobs", json={"job": job})
                self.jobs["319"] = answer.json()["jobId"]
                await self.until("319", "RUNNING")
            case "job.get.cancelled":
                await self.until("319", "CANCELLED")

    async def post(self, operation: str, **content: Any) -> None:
        answer = await self.client.post(f"/filesystem/{self.api.system}/ops/{operation}", **content)
        assert answer.status_code in {201, 204}, answer.text

    async def until(self, job: str, state: str) -> None:
        with anyio.fail_after(30):
            while True:
                answer = await self.client.get(f"/compute/{self.api.system}/jobs/{self.jobs[job]}")
                assert answer.status_code == 200, answer.text  # a job that was submitted never gets lost
                if answer.json()["jobs"][0]["status"]["state"] == state:
                    return
                await anyio.sleep(0.1)


async def replayed(api: Api) -> Replay:
    """All exchanges, sent in the recorded order, with the responses by case."""
    headers = {"Authorization": f"Bearer {api.token}"}
    async with httpx.AsyncClient(base_url=api.url, headers=headers, timeout=30, verify=False) as client:
        replay = Replay(api, client)
        for exchange in EXCHANGES:
            case = exchange["case"]
            await replay.before(case)
            if case.startswith("xfer"):
                exchange["request"].setdefault("json" if "json" in exchange["request"] else "params", {})["account"] = (
                    api.account
                )
            response = replay.responses[case] = await exchanges.send(client, exchange, replay.rename)
            if case == "job.submit" and response.status_code == 201:
                replay.jobs["315"] = response.json()["jobId"]
                exchange["answer"]["body"]["jobId"] = replay.jobs["315"]
        await client.delete(f"/filesystem/{api.system}/ops/rm", params={"path": replay.work})
    return replay


@pytest.fixture(scope="module")
def replay(api: Api) -> Replay:
    return asyncio.run(replayed(api))


@pytest.mark.parametrize("exchange", EXCHANGES, ids=[exchange["case"] for exchange in EXCHANGES])
def test_exchange(replay: Replay, exchange: dict[str, Any]) -> None:
    exchanges.compare(exchange, replay.responses[exchange["case"]], replay.rename)
