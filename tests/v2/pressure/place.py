"""A gateway in front of a login node that takes two channels on a connection (MaxSessions 2), and clients of it."""

from __future__ import annotations

import asyncio

import httpx

from flamecrest.sandbox.centre import Centre

SIZE = 64 * 1024 * 1024  # bytes of a large file
METRIC = "flamecrest_ssh_requests_refused_total"
ONE, OTHER, *MANY = USERS = ("fireuser", "user01", "user02", "user03")


class Place:
    """A gateway before a login node that takes two channels on a connection, and clients of its users."""

    def __init__(self, centre: Centre, url: str, pid: int, metrics: str, http: httpx.AsyncClient) -> None:
        self.centre = centre
        self.pid = pid  # of the gateway
        self._port = int(url.rpartition(":")[2])
        self._url = f"{url}/filesystem/{centre.system}/ops"
        self._status = f"{url}/status/{centre.system}"
        self._metrics = metrics
        self._http = http

    async def get(self, user: str, operation: str, name: str = "", seconds: float | None = None) -> httpx.Response:
        path = str(self.centre.home(user) / name)
        return await self._get(user, f"{self._url}/{operation}", {"path": path}, seconds)

    async def command(self, user: str, seconds: float | None = None) -> httpx.Response:
        """A request that runs one command: `id`."""
        return await self._get(user, f"{self._status}/userinfo", {}, seconds)

    async def _get(self, user: str, url: str, params: dict[str, str], seconds: float | None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.centre.token(user)}"}
        if seconds is not None:
            headers["Request-Timeout"] = str(seconds)
        return await self._http.get(url, params=params, headers=headers)

    async def refused(self, reason: str) -> float:
        text = (await self._http.get(self._metrics)).text
        lines = [line for line in text.splitlines() if line.startswith(METRIC) and f'reason="{reason}"' in line]
        return sum(float(line.split()[-1]) for line in lines)

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the gateway that reads hardly anything ahead."""
        return await asyncio.open_connection("127.0.0.1", self._port, limit=1024)

    def head(self, method: str, target: str, user: str, *lines: str) -> bytes:
        """The head of a request about files."""
        start = f"{method} /filesystem/{self.centre.system}/{target} HTTP/1.1"
        token = f"Authorization: Bearer {self.centre.token(user)}"
        return "\r\n".join([start, "Host: gateway", token, *lines, "", ""]).encode()
