"""A sandbox with an object store: mover jobs on one cluster, the gateway as the mover on the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import yaml
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.centre import SYSTEM, Centre
from flamecrest.sandbox.store import ObjectStore, object_store
from tests.live.process import gateway
from tests.v2.conftest import Api

from .place import MIB, MOVERS


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Centre, ObjectStore, str, Path]]:
    """A sandbox with an object store, and a gateway in front of it; its address and its log."""
    folder = tmp_path_factory.mktemp("store")
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        store = stack.enter_context(portal.wrap_async_context_manager(object_store()))
        centre = stack.enter_context(portal.wrap_async_context_manager(Centre(folder / "centre", with_local=True)))
        config = centre.config()
        for cluster in config["clusters"]:
            mover = "job" if cluster["name"] == SYSTEM else "gateway"
            cluster["data_operation"]["data_transfer"] = store.settings(
                mover=mover, multipart={"max_part_size": 5 * MIB}, bucket_name_prefix=f"{mover}-", copy_through="store",
            )  # fmt: skip
        config["transfers"] = config.get("transfers", {}) | {"signing_key": "of all gateways of the tests " * 2}
        path = folder / "flamecrest.yaml"
        path.write_text(yaml.safe_dump(config))
        server = stack.enter_context(gateway(path, folder / "gateway.log"))
        yield centre, store, server.url, server.log


@pytest.fixture(params=MOVERS)
def api(place, request: pytest.FixtureRequest) -> Api:
    centre, _, url, log = place
    user = "fireuser"
    return Api(
        url, centre.issuer.token_url, user, centre.client_secret(user), centre.token(user),
        MOVERS[request.param], str(centre.home(user)), "test", False, log,
    )  # fmt: skip


@pytest.fixture
def store(place) -> Iterator[ObjectStore]:
    yield place[1]
    place[1].gate.down = False


@pytest.fixture
def http(api) -> Iterator[httpx.Client]:
    with api.http() as client:
        yield client


@pytest.fixture
def web() -> Iterator[httpx.Client]:
    """A client without a token."""
    with httpx.Client(timeout=30, verify=False) as client:
        yield client
