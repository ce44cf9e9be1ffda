"""A gateway in front of one site with several object stores, which are owners of one radosgw.

The store is started by centre/store-up.sh for each module, and stopped after it.
"""

from __future__ import annotations

import copy
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from flamecrest.sandbox.issuer import Issuer
from tests.live.process import ROOT, Server, free_port, gateway
from tests.live.site import Site, write_settings

from .place import KEYS, MIB, PAGE, Place

SCRIPTS = ROOT / "tests/live/centre"


def three_ports() -> int:
    """The first of three free ports in a row."""
    while True:
        first = free_port()
        try:
            with ExitStack() as stack:
                for port in (first, first + 1, first + 2):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


@pytest.fixture(scope="module")
def store(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a running radosgw, and its directory."""
    if site.host != "127.0.0.1":
        pytest.skip("the nodes of another site do not reach a store on this machine")
    folder, port = tmp_path_factory.mktemp("store") / "radosgw", three_ports()
    try:
        made = subprocess.run(
            [SCRIPTS / "store-up.sh", folder, str(port)], capture_output=True, text=True, timeout=300, check=False
        )
        assert made.returncode == 0, made.stderr
        yield f"http://127.0.0.1:{port}", folder
    finally:
        subprocess.run([SCRIPTS / "store-down.sh", folder], check=False, timeout=60)


@pytest.fixture(scope="module")
def place(
    store: tuple[str, Path], site: Site, live_issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    address, daemon = store
    outside = address.replace("127.0.0.1", "localhost")
    root = tmp_path_factory.mktemp("gateways")
    settings = site.settings(live_issuer, root / "secret", probing=False)
    (cluster,) = settings["clusters"]
    clusters = []

    def add(name: str, owner: str, **more: Any) -> None:
        one = copy.deepcopy(cluster) | {"name": name}
        key, secret = KEYS[owner]
        one["data_operation"]["data_transfer"] = {
            "service_type": "s3", "name": "radosgw", "private_url": address,
            "public_url": outside, "access_key_id": key, "secret_access_key": secret,
            "region": "us-east-1", "ttl": 3600, "multipart": {"max_part_size": 8 * MIB},
            "bucket_lifecycle_configuration": {"days": 3}, **more,
        }  # fmt: skip
        one["data_operation"]["datatransfer_jobs_directives"] += ["#SBATCH --hold"] if name == "held" else []
        clusters.append(one)

    add("jobs", "flamecrest", bucket_name_prefix="jobs-", copy_through="store")
    add("held", "flamecrest", bucket_name_prefix="held-")
    add("relayed", "flamecrest", bucket_name_prefix="relayed-", copy_through="store", mover="gateway")
    add("tenant", "tenant", tenant="hpc")
    add("virtual", "flamecrest", bucket_name_prefix="virtual-", addressing_style="virtual", private_url=outside)
    add("brief", "flamecrest", bucket_name_prefix="brief-", ttl=3)
    add("full", "full", bucket_name_prefix="full-")
    add("full-relayed", "full", bucket_name_prefix="full-", mover="gateway")
    add("foreign", "other", bucket_name_prefix="jobs-")
    config = write_settings(
        settings | {"clusters": clusters, "server": {"cors_origins": [PAGE]}}, root / "flamecrest.yaml"
    )
    with ExitStack() as stack:
        token, folder = live_issuer.mint(site.user), f"{site.home(site.user)}/store-{os.getpid()}"

        def start() -> Server:
            return stack.enter_context(gateway(config, root / "gateway.log"))

        made = Place(site, token, address, start, folder, daemon)
        server = made.start()
        with made.http(server) as http:
            assert http.post("/filesystem/jobs/ops/mkdir", json={"path": folder}).status_code == 201
            yield made
            assert http.delete("/filesystem/jobs/ops/rm", params={"path": folder}).status_code == 204


@pytest.fixture(scope="module")
def server(place: Place) -> Server:
    return place.start()


@pytest.fixture
def http(place: Place, server: Server) -> Iterator[httpx.Client]:
    with place.http(server) as client:
        yield client
