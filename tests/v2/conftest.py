"""A gateway in a process of its own, over the sandbox and, when FLAMECREST_LIVE is set, over the live site."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.centre import Centre
from flamecrest.sandbox.issuer import Issuer
from tests.live.openfga import BINARY, Store, openfga
from tests.live.process import free_port, gateway
from tests.live.site import Site, write_settings

from . import hostile_answers as answers
from . import security

PART_SIZE = 1024 * 1024  # bytes of a part of an upload, at the sandbox


@dataclass(frozen=True)
class Api:
    """What a client needs: the URLs of the API and the token endpoint, the system name, and a folder."""

    url: str
    token_url: str
    client_id: str
    secret: str
    token: str
    system: str
    home: str
    account: str
    live: bool
    log: Path  # of the gateway

    @property
    def user(self) -> str:
        return self.home.rpartition("/")[2]

    def http(self) -> httpx.Client:
        """A client without CA certificates: the API is plain HTTP, and loading them takes longer than most tests."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, verify=False)


def complete(config: Path, authority: Path, *, part_size: int | None = None, store: Store | None = None) -> None:
    """Switch everything of access on, and set the size of parts."""
    settings = yaml.safe_load(config.read_text())
    if part_size is not None:
        settings["transfers"] = {"part_size": part_size}
    security.switch_on(settings, config.parent, authority)
    if store is not None:
        security.ask_openfga(settings, config.parent, store)
    config.write_text(yaml.safe_dump(settings, sort_keys=False))


@pytest.fixture(scope="module", autouse=True)
def never_blocked() -> None:
    """Watch no event loop of this process: gateways run in others, and the sandbox's SSH server may block its own."""


@pytest.fixture(scope="session", params=["sandbox", pytest.param("live", marks=pytest.mark.live)])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp(request.param)
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        if request.param == "sandbox":
            centre = stack.enter_context(portal.wrap_async_context_manager(Centre(folder / "centre")))
            config, issuer, user = centre.write_config(folder / "flamecrest.yaml"), centre.issuer, "fireuser"
            complete(config, centre.root / "keys" / "user_ca", part_size=PART_SIZE)
            system, home, account, token = centre.system, str(centre.home(user)), "test", centre.token(user)
        else:
            site = Site.from_environment()
            if reason := site.why_not():
                (pytest.fail if os.environ.get("FLAMECREST_LIVE") else pytest.skip)(reason)
            issuer = stack.enter_context(portal.wrap_async_context_manager(Issuer(site.clients(), ttl=3600)))
            config = write_settings(site.settings(issuer, folder / "secret"), folder / "flamecrest.yaml")
            system, home, account, user = site.system, site.home(site.user), site.account, site.user
            token = issuer.mint(user)
            store = None
            if os.access(BINARY, os.X_OK):
                store = stack.enter_context(openfga(folder, free_port()))
                for one in site.users:
                    store.write(f"user:{one}", "can_access", system)
            complete(config, site.keys / "user_ca", store=store)
        client = next(name for name, (_, of) in issuer.clients.items() if of == user)
        server = stack.enter_context(gateway(config, folder / "gateway.log"))
        yield Api(
            server.url,
            issuer.token_url,
            client,
            issuer.clients[client][0],
            token,
            system,
            home,
            account,
            request.param == "live",
            server.log,
        )
        stack.close()  # the gateway has ended
        assert "none missing or changed" in security.verify_audit(folder)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """As for all tests; the fixtures of a module run on it, too."""
    return "asyncio"


@pytest.fixture(scope="module")
async def http(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """An asynchronous client for concurrent requests."""
    async with answers.client(api) as client:
        yield client


@pytest.fixture
def work(api: Api) -> Iterator[str]:
    """An empty folder on the cluster."""
    path = f"{api.home}/v2-{secrets.token_hex(4)}"
    ops = f"/filesystem/{api.system}/ops"
    with api.http() as client:
        assert client.post(f"{ops}/mkdir", json={"path": path}).status_code == 201
        yield path
        assert client.delete(f"{ops}/rm", params={"path": path}).status_code == 204
