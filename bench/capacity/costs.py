"""What one request costs the gateway's processor, and one open HTTP connection its memory."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final
from urllib.parse import quote, urlsplit

from bench.columns import GATEWAY
from bench.contenders.servers import Contender
from bench.measure.http_client import EndpointClient, client
from bench.measure.load import Endpoint
from bench.measure.resources import Meter, resident
from bench.results import SERVER_TIME, Cell
from bench.workloads.jobs import room
from bench.workloads.workload import Bench

CONNECTIONS: Final = 400  # idle HTTP connections
ENTRIES: Final = 50  # of the directory that is listed
NAME: Final = "flamecrest-bench-costs"  # of the jobs, which are held and cancelled at the end
BOUNDARY: Final = "flamecrest-bench-costs"

Call = tuple[str, str, bytes | None, dict[str, str]]  # method, target, body, headers


class Costs:
    """Requests of one client, one at a time, so that no two share a question or a packet; then idle connections."""

    name = "costs"
    title = "Processor time of single requests, one at a time, and memory of idle HTTP connections"
    rows = "of"
    needs: Sequence[str] = (GATEWAY,)

    async def run(self, bench: Bench) -> list[Cell]:
        folder = shlex.quote(_folder(bench))
        await bench.shell(f"mkdir {folder} && cd {folder} && seq -f entry-%.0f {ENTRIES} | xargs touch")
        cells = []
        try:
            for key in bench.measured(self.needs):
                bench.say(f"{self.name}: {key}")
                cells += await asyncio.to_thread(self._measured, bench, bench.contenders[key])
        finally:
            await bench.shell(f"rm -r {folder}")
            if bench.scheduler:
                await bench.shell(f"scancel --name={NAME}")
        return cells

    def _measured(self, bench: Bench, contender: Contender) -> list[Cell]:
        if contender.pid is None:
            return []
        cells = []
        for name, (part, call, repeats) in _calls(bench).items():
            with client(room(contender.endpoint, part)) as http:
                _send(http, call)
                meter = Meter(contender.pid, None)
                count = bench.runs(repeats // 2, repeats)
                wrong = sum(_send(http, call) for _ in range(count))
                spent = meter.usage(count).server_ms
            cells.append(Cell(self.name, contender.key, SERVER_TIME, name, (spent,), "", wrong))
        kib = idle_connections(contender.pid, contender.endpoint)
        return [*cells, Cell(self.name, contender.key, "KiB", "an idle HTTP connection", (kib,))]


def idle_connections(pid: int, endpoint: Endpoint) -> float:
    """The resident memory in KiB of one of many connections that have had a response and stay open."""
    parts = urlsplit(endpoint.url)
    before = resident(pid)
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            one = stack.enter_context(socket.create_connection((parts.hostname, parts.port), timeout=60))
            one.sendall(f"GET /health/live HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
            if not one.recv(4096).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("/health/live is not answered with 200")
        return (resident(pid) - before) * 1024 / CONNECTIONS


def _calls(bench: Bench) -> dict[str, tuple[str, Call, int]]:
    """The requests by name: the part of the API, the call, and how often it is sent."""
    file, folder = quote(bench.files[0]), quote(_folder(bench))
    head = 'Content-Disposition: form-data; name="file"; filename="up"'
    form = f"--{BOUNDARY}\r\n{head}\r\n\r\n{'x' * 1024}\r\n--{BOUNDARY}--\r\n".encode()
    multipart = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    job = {"name": NAME, "workingDirectory": bench.folder, "standardOutput": "/dev/null"}
    job |= {"script": "#!/bin/sh\n#SBATCH --hold\ntrue\n"}
    found: dict[str, tuple[str, Call, int]] = {
        "stat": ("filesystem", ("GET", f"/ops/stat?path={file}", None, {}), 400),
        "ls": ("filesystem", ("GET", f"/ops/ls?path={folder}", None, {}), 400),
        "download": ("filesystem", ("GET", f"/ops/download?path={file}", None, {}), 400),
        "upload": ("filesystem", ("POST", f"/ops/upload?path={folder}", form, multipart), 400),
    }
    if bench.scheduler:
        body = json.dumps({"job": job}).encode()
        found["jobs"] = ("compute", ("GET", "/jobs", None, {}), 400)
        found["submit"] = ("compute", ("POST", "/jobs", body, {"Content-Type": "application/json"}), 40)
    return found


def _send(http: EndpointClient, call: Call) -> bool:
    """Send a request; whether it failed."""
    method, target, body, headers = call
    return not 200 <= http.request(method, target, body=body, headers=headers).status < 300


def _folder(bench: Bench) -> str:
    return f"{bench.folder}.costs"
