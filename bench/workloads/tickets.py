"""Tickets for an upload of 1 TB in parts by signed URLs, alone and beside other clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from bench.columns import GATEWAY
from bench.contenders.servers import Contender
from bench.measure import load
from bench.measure.http_client import EndpointClient, client
from bench.measure.load import Request
from bench.results import Cell

from .workload import Bench

SIZE = 1_000_000_000_000  # bytes
OTHERS = (0, 64)  # clients
PAUSE = 0.2  # seconds between two tickets
JSON = {"Content-Type": "application/json"}


class Tickets:
    """The others ask for metadata of files, as fast as they can. Every upload is aborted at once."""

    name = "tickets"
    title = "Ticket for an upload of 1 TB in parts by signed URLs, beside clients that stat"
    rows = "other clients"
    needs: Sequence[str] = (GATEWAY,)

    async def run(self, bench: Bench) -> list[Cell]:
        if not load.wrk_installed():
            bench.say(f"{self.name}: skipped, wrk is not installed (apt-get install wrk)")
            return []
        return [await self._row(bench, key, others) for others in OTHERS for key in bench.measured(self.needs)]

    async def _row(self, bench: Bench, key: str, others: int) -> Cell:
        contender, count = bench.contenders[key], bench.runs(5, 20)
        bench.say(f"{self.name}: beside {others} clients, {contender.title}")
        requests = [Request(f"/ops/stat?path={quote(path)}") for path in bench.files]
        beside = asyncio.create_task(self._others(contender, requests, others, count))
        samples, wrong = [], 0
        with client(contender.endpoint) as http:
            for number in range(1 + count):
                await asyncio.sleep(PAUSE)
                milliseconds, right = await asyncio.to_thread(ticket, http, f"{bench.folder}.ticket{number}")
                wrong += not right
                samples.append(milliseconds)
        await beside
        return Cell(self.name, key, "ms", others, tuple(samples[1:]), "", wrong)  # the first opens connections

    @staticmethod
    async def _others(contender: Contender, requests: Sequence[Request], others: int, count: int) -> None:
        if others:
            await load.wrk(contender.endpoint, requests, others, 1 + count * PAUSE * 2)


def ticket(http: EndpointClient, path: str) -> tuple[float, bool]:
    """Get a ticket and abort the upload; the milliseconds of the first, and whether both have succeeded."""
    wanted = {"path": path, "transferDirectives": {"transferMethod": "direct", "fileSize": SIZE}}
    response = http.request("POST", "/transfer/upload", body=json.dumps(wanted).encode(), headers=JSON, keep=True)
    if response.status != 201:
        return response.seconds * 1000, False
    urls = json.loads(response.body)["transferDirectives"]
    right = len(urls["partsUploadUrls"]) * urls["maxPartSize"] >= SIZE
    abort = urlsplit(urls["abortUploadUrl"])
    http.connection.request("DELETE", f"{abort.path}?{abort.query}")
    aborted = http.connection.getresponse()
    aborted.read()
    return response.seconds * 1000, right and aborted.status == 204
