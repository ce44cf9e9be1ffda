"""What `check --connect` says of OpenFGA and of the store of limits."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.unit.auth.authorization.test_openfga import Store
from tests.unit.cli.test_connect import Centre, centre  # noqa: F401 -- a fixture

pytestmark = pytest.mark.anyio


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def internal_error(_what: str, _body: dict[str, Any]) -> tuple[int, Any]:
    return 500, {"code": "internal_error", "message": "hunter2"}


@pytest.mark.parametrize(
    ("openfga", "broken", "ok", "said"),
    [
        ({"token": "hunter2"}, False, True, "answers a question"),
        ({"send_token": False}, False, True, "answers a question"),
        ({"token": "hunter2"}, True, False, "OpenFGA: it answers check with 500 (internal_error)"),
    ],
)
async def test_openfga_is_asked(
    centre: Centre,  # noqa: F811
    openfga: dict[str, Any],
    broken: bool,
    ok: bool,
    said: str,
) -> None:
    store = Store()
    store.answer = internal_error if broken else None
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/stores/01"
        centre.config["auth"]["authorization"] = {"url": url, "openfga": openfga}
        found = (await centre.findings())[f"OpenFGA {url}"]
        for task in store.serving:
            task.cancel()
    assert (found.ok, found.message) == (ok, said)
    assert ok or "auth.authorization.url" in found.advice


@pytest.mark.parametrize("openfga", [{"token": "hunter2"}, {}])
async def test_openfga_that_does_not_answer(centre: Centre, openfga: dict[str, Any]) -> None:  # noqa: F811
    url = f"http://127.0.0.1:{free_port()}/stores/01"
    centre.config["auth"]["authorization"] = {"url": url, "openfga": openfga}
    found = await centre.findings()
    assert not found[f"OpenFGA {url}"].ok
    assert "the URL" in found[f"OpenFGA {url}"].advice or "auth.authorization.url" in found[f"OpenFGA {url}"].advice
    assert found["one: slurm"].ok


async def test_a_store_of_limits_that_does_not_answer(centre: Centre) -> None:  # noqa: F811
    store = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    centre.config["limits"] = {"store": store, "users": [{"requests_per_second": 10}]}
    found = (await centre.findings())["store of limits"]
    assert not found.ok
    assert "Connect call failed" in found.message
    assert "limits.store" in found.advice
    assert "hunter2" not in found.message + found.advice
