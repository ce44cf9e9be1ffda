"""A real HTTP server that speaks the protocols of SSHService and of DeiC's SSHCA, and signs with a real key."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator

import asyncssh
from aiohttp import web


class KeyService:
    """Both protocols on 127.0.0.1. `users` are the tokens that it accepts, with the account of each."""

    def __init__(self) -> None:
        self.authority = asyncssh.generate_private_key("ssh-ed25519")
        self.users = {"token-of-ann": "ann", "token-of-bob": "bob"}
        self.lasts = 60.0  # seconds for which certificates are valid
        self.principals: list[str] | None = None  # of a certificate; None: the account
        self.requests: Counter[str] = Counter()  # by token
        self.bodies: list[dict[str, str]] = []
        self.answer: web.Response | None = None  # in place of a certificate
        self.gate = asyncio.Event()  # answers wait until it is set
        self.gate.set()
        self.serial = 0
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/api/v1/ssh-keys", self._ssh_service)
        app.router.add_post("/ca/sign", self._ssh_ca)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        self.gate.set()
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = None

    def sign(self, key: asyncssh.SSHKey, user: str) -> str:
        self.serial += 1
        now = time.time()
        certificate = self.authority.generate_user_certificate(
            key,
            f"key of {user}",
            serial=self.serial,
            principals=[user] if self.principals is None else self.principals,
            valid_after=int(now - 60),
            valid_before=int(now + self.lasts),
        )
        return certificate.export_certificate().decode()

    async def _ssh_service(self, request: web.Request) -> web.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        body = await request.json()
        user, early = await self._begin(token, body)
        if early is not None:
            return early
        if body["username"] != user:
            return web.Response(status=403, text="not your account")
        key = asyncssh.generate_private_key("ssh-ed25519")
        private = key.export_private_key().decode().rstrip("\n")
        keys = {"privateKey": private, "publicKey": self.sign(key, user).rstrip("\n")}
        return web.json_response({"sshKey": keys}, status=201)

    async def _ssh_ca(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        user, early = await self._begin(body["OTT"], body)
        if early is not None:
            return early
        return web.Response(text=self.sign(asyncssh.import_public_key(body["PublicKey"]), user))

    async def _begin(self, token: str, body: dict[str, str]) -> tuple[str, web.Response | None]:
        self.requests[token] += 1
        self.bodies.append(body)
        await self.gate.wait()
        if self.answer is not None:
            return "", web.Response(status=self.answer.status, text=self.answer.text)
        if token not in self.users:
            return "", web.Response(status=401, text=f"who is {token}?")
        return self.users[token], None


@contextlib.asynccontextmanager
async def key_service() -> AsyncIterator[KeyService]:
    service = KeyService()
    await service.start()
    try:
        yield service
    finally:
        await service.stop()
