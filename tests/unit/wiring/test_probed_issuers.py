"""Probes of token issuers and OpenFGA: operators see their results, and no request is refused for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flamecrest.sandbox.centre import Centre
from flamecrest.server.app import create_app
from flamecrest.server.health.board import ProbeResult, Service
from flamecrest.server.settings import load
from tests.unit.auth.authorization.test_openfga import Store

pytestmark = pytest.mark.anyio

OFTEN = {"interval_check": 1, "retry_interval": 1}


class Asking:
    """A gateway, asked by a user."""

    def __init__(self, client: httpx.AsyncClient, depends_on: Callable[[], Sequence[ProbeResult]]) -> None:
        self.client = client
        self.depends_on = depends_on
        self._was_ready = False

    async def ready(self) -> dict[str, dict[str, Any]]:
        """The dependencies, by service. A gateway that was ready once must stay so."""
        answer = await self.client.get("/health/ready", headers={"Authorization": ""})
        if not self._was_ready and answer.status_code == 503:  # no key is read yet
            return {}
        self._was_ready = True
        assert answer.status_code == 200, answer.text
        assert not {"target", "message"} & {key for one in answer.json()["dependencies"] for key in one}
        assert "127.0.0.1" not in answer.text  # anybody may read it
        return {one["service"]: one for one in answer.json()["dependencies"]}

    def details(self, service: Service) -> tuple[str | None, str | None]:
        """The address of a dependency and the message of its probe, which only the gateway itself knows."""
        (found,) = (probe for probe in self.depends_on() if probe.service is service)
        return found.path, found.message

    async def until(self, holds: Callable[[dict[str, dict[str, Any]]], bool]) -> dict[str, dict[str, Any]]:
        async with asyncio.timeout(50):
            while not holds(found := await self.ready()):
                await asyncio.sleep(0.02)
        return found


@asynccontextmanager
async def asking(centre: Centre, config: dict[str, Any], file: Path) -> AsyncIterator[Asking]:
    file.write_text(yaml.safe_dump(config))
    app = await asyncio.to_thread(lambda: create_app(load(file, {})))
    headers = {"Authorization": f"Bearer {centre.token('fireuser')}"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway", headers=headers) as client,
    ):
        yield Asking(client, app.gateway.depends_on)


async def test_an_issuer_that_is_down_is_shown_and_refuses_nobody(tmp_path: Path):
    async with Centre(tmp_path / "centre") as centre:
        config = centre.config()
        config["auth"]["probing"] = OFTEN
        async with asking(centre, config, tmp_path / "flamecrest.yaml") as gateway:
            up = (await gateway.until(lambda found: "issuer" in found))["issuer"]
            assert up["healthy"]
            assert gateway.details(Service.ISSUER) == (centre.issuer.url, None)
            await centre.issuer.stop()
            down = (await gateway.until(lambda found: not found["issuer"]["healthy"]))["issuer"]
            assert gateway.details(Service.ISSUER)[1] == "The keys cannot be read: ConnectError"
            assert down["since"] > up["since"]
            answer = await gateway.client.get("/status/systems")  # the keys are known
            assert answer.status_code == 200
            assert all(one["serviceType"] != "issuer" for one in answer.json()["systems"][0]["servicesHealth"] or [])
            await centre.issuer.start()
            await gateway.until(lambda found: found["issuer"]["healthy"])


@pytest.mark.parametrize("token", ["secret-of-the-gateway", None])
async def test_openfga_is_asked_as_requests_do(tmp_path: Path, token: str | None):
    store = Store()
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    async with server, Centre(tmp_path / "centre") as centre:
        config = centre.config()
        config["auth"] |= {
            "probing": OFTEN,
            "authorization": {
                "url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/stores/01",
                "openfga": {"token": token, "send_token": True},
            },
        }
        async with asking(centre, config, tmp_path / "flamecrest.yaml") as gateway:
            found = await gateway.until(lambda found: len(found) == (1 if token is None else 2))
            if token is None:  # it would be asked with the tokens of callers only
                assert not store.asked
                return
            assert found["openfga"]["healthy"]
            what, body, authorization = store.asked[0]
            asked = {"user": "user:flamecrest-probe", "relation": "can_access", "object": f"system:{centre.system}"}
            assert (what, body["tuple_key"], authorization) == ("check", asked, f"Bearer {token}")
            store.answer = lambda *_: (500, {"code": "internal_error", "message": "<secret>"})
            found = await gateway.until(lambda found: not found["openfga"]["healthy"])
            assert gateway.details(Service.OPENFGA)[1] == "OpenFGA: it answers check with 500 (internal_error)"
            store.answer = None
            await gateway.until(lambda found: found["openfga"]["healthy"])
        for task in store.serving:
            task.cancel()


async def test_no_probes(tmp_path: Path):
    async with Centre(tmp_path / "centre") as centre:
        config = centre.config()
        config["auth"]["probing"] = {"interval_check": 0}
        async with asking(centre, config, tmp_path / "flamecrest.yaml") as gateway:
            assert (await gateway.client.get("/status/systems")).status_code == 200
            assert await gateway.ready() == {}
