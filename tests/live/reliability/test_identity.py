"""The token issuer and OpenFGA are down, bad tokens come in masses, clocks differ."""

from __future__ import annotations

import os
import platform
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.issuer import Issuer, SigningKey
from tests.live.faults import until
from tests.live.openfga import API_TOKEN, BINARY, openfga
from tests.live.process import free_port

from .conftest import Scene
from .tcp_proxy import tcp_proxy

FAKETIME = Path(f"/usr/lib/{platform.machine()}-linux-gnu/faketime/libfaketimeMT.so.1")  # of Debian
FLOOD = 300  # bad tokens of each client


def test_the_issuer_is_down(scene: Scene) -> None:
    """Tokens of known keys are accepted; those of a new key are not, until the issuer is back."""
    with start_blocking_portal("asyncio") as portal:
        issuer = Issuer(scene.world.site.clients(), ttl=3600)
        portal.call(issuer.start)
        scene.world.issuer = issuer
        node = scene.world.sshd()
        server = scene.serve(scene.settings(node))
        scene.reads()
        user = scene.users[0]
        client = scene.world.client(server, user)
        newest = lambda: client.get(scene.operation("stat"), params=scene.home(user))  # noqa: E731
        scene.traffic.add("stat with a token of a new key", newest, 0.2)
        try:
            with scene.fault("issuer", node) as fault, fault.lasts():
                portal.call(issuer.stop)
                issuer.keys.append(SigningKey.generate())
                client.headers["Authorization"] = f"Bearer {issuer.mint(user)}"
                fault.until_noticed("stat with a token of a new key")
                fault.until_others_served("stat with a token of a new key")
                portal.call(issuer.start)
        finally:
            portal.call(issuer.stop)


def test_openfga_is_down(scene: Scene) -> None:
    if not os.access(BINARY, os.X_OK):
        pytest.skip(f"{BINARY} is missing: tests/live/openfga.sh builds it, with Go")
    world, port, node = scene.world, free_port(), scene.world.sshd()
    store = world.stack.enter_context(openfga(world.folder, port))
    proxy = world.stack.enter_context(tcp_proxy(port))
    for user in scene.users:
        store.write(f"user:{user}", "can_access", world.site.system)
    (world.folder / "token").write_text(API_TOKEN)
    settings = scene.settings(node)
    settings["auth"]["authorization"] = {
        "url": f"http://127.0.0.1:{proxy.port}",
        "timeout": 5,
        "openfga": {"store": store.id, "token": f"secret_file:{world.folder / 'token'}", "cache_seconds": 0},
    }
    scene.serve(settings)
    scene.reads()
    with scene.fault("openfga", node) as fault, fault.lasts():
        proxy.refuse()
        fault.until_noticed("stat")
        fault.until_noticed("ls")
        proxy.listen()


def test_many_bad_tokens(scene: Scene) -> None:
    """They are refused, and nobody else notices."""
    node = scene.world.sshd()
    server = scene.serve(scene.settings(node))
    scene.files()
    good = scene.world.issuer.mint(scene.users[0])
    stranger = SigningKey.generate("ES256")

    def bad(number: int) -> dict[str, str]:
        match number % 4:
            case 0:
                token = good[:-8] + secrets.token_hex(4)
            case 1:
                token = stranger.sign({"alg": "ES256", "kid": secrets.token_hex(8)}, {"sub": "x"})
            case 2:
                token = secrets.token_urlsafe(900)
            case _:
                return {}
        return {"Authorization": f"Bearer {token}"}

    def flood(_: int) -> set[int]:
        with httpx.Client(base_url=server.url, timeout=40, trust_env=False) as client:
            answers = [client.get(scene.operation("stat"), params={"path": "/"}, headers=bad(n)) for n in range(FLOOD)]
            return {one.status_code for one in answers}

    with scene.fault("bad-tokens", node) as fault, fault.lasts(), ThreadPoolExecutor(4) as pool:
        assert set.union(*pool.map(flood, range(4))) == {401}
    assert all(one.served for one in scene.traffic.samples)


def test_clocks_differ(scene: Scene) -> None:
    """Tokens from the future are refused; those that were accepted before, and others, go on."""
    offset = 0.0
    with start_blocking_portal("asyncio") as portal:
        issuer = Issuer(scene.world.site.clients(), ttl=3600, clock=lambda: time.time() + offset)
        portal.call(issuer.start)
        scene.world.issuer = issuer
        node = scene.world.sshd()
        server = scene.serve(scene.settings(node))
        scene.files()
        user = scene.users[0]
        client = scene.world.client(server, user)

        def newest() -> httpx.Response:
            client.headers["Authorization"] = f"Bearer {issuer.mint(user)}"
            return client.get(scene.operation("stat"), params=scene.home(user))

        scene.traffic.add("stat with a new token", newest)
        try:
            with scene.fault("clock", node) as fault, fault.lasts():
                offset = -600.0
                fault.until_served()
                offset = 600.0
                fault.until_noticed("stat with a new token")
                fault.until_others_served("stat with a new token")
                offset = 0.0
        finally:
            portal.call(issuer.stop)


def test_the_clock_of_the_gateway_jumps(scene: Scene) -> None:
    """Tokens that have not expired go on; with the right time all is as before."""
    if not FAKETIME.exists():
        pytest.skip(f"{FAKETIME} is missing: tests/live/programs.sh installs it")
    clock = scene.world.folder / "clock"
    clock.write_text("+0")
    settings = {
        "LD_PRELOAD": FAKETIME,
        "FAKETIME_TIMESTAMP_FILE": clock,
        "FAKETIME_NO_CACHE": 1,
        "FAKETIME_DONT_FAKE_MONOTONIC": 1,
    }
    node = scene.world.sshd()
    scene.serve(scene.settings(node), before=["env", *(f"{name}={value}" for name, value in settings.items())])
    scene.files()

    def jump(offset: str) -> None:
        new = clock.with_suffix(".new")
        new.write_text(offset)
        new.replace(clock)  # a file that is empty for a moment would be a jump of its own

    def refused(message: str) -> None:
        """Wait until each kind of request, begun from now on, has been refused with this."""
        since = time.monotonic()
        said = lambda: {  # noqa: E731
            one.what for one in list(scene.traffic.samples) if one.begun >= since and message in one.message
        }
        until(lambda: said() == scene.traffic.kinds, f"requests are refused: {message}")

    with scene.fault("own-clock", node) as fault, fault.lasts():
        jump("+600")
        fault.until_served()
        jump("+7200")  # all tokens have expired
        refused("Access token is expired")
        jump("-600")  # they are from the future
        refused("Access token is invalid")
        jump("+0")
