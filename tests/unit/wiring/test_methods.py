"""`/status/systems` names the transfer methods that the wiring makes, with their limits."""

from __future__ import annotations

from typing import Any

import pytest

from flamecrest.server.settings import Settings
from flamecrest.server.wiring.describe import description
from flamecrest.server.wiring.stores import Stores
from flamecrest.server.wiring.transfers import method_factories

pytestmark = pytest.mark.anyio
STORE = {
    "service_type": "s3", "name": "s", "private_url": "http://in", "public_url": "http://out", "access_key_id": "id",
    "secret_access_key": "hunter2", "region": "r", "ttl": 60,
}  # fmt: skip
STREAMER = {"service_type": "streamer", "port_range": [5000, 5010], "public_ips": ["192.0.2.1"], "wait_timeout": 60}


@pytest.mark.parametrize("work", [True, False])
@pytest.mark.parametrize("transfer", [None, STORE, STREAMER, {"service_type": "wormhole"}], ids=str)
async def test_methods_are_those_of_the_wiring(transfer: dict[str, Any] | None, work: bool) -> None:
    cluster = {
        "name": "one",
        "ssh": {"host": "h"},
        "scheduler": {"type": "slurm", "version": "1"},
        "file_systems": [{"path": "/home", "data_type": "users", "default_work_dir": work}],
        "data_operation": {"data_transfer": transfer},
    }
    settings = Settings.model_validate(
        {
            "auth": {"authentication": {"public_certs": ["https://id.example.org/certs"]}},
            "ssh_credentials": {"url": "https://keys.example.org"},
            "clusters": [cluster],
        }
    )
    (made,) = settings.clusters
    operations, stores = settings.operations(made), Stores()
    factories = method_factories(made, operations, await stores.of(operations))
    stores.close()
    shown = description(made, operations, settings.transfers).transfer_methods
    assert [one.name for one in shown] == list(factories)
    by_name = {one.name: one for one in shown}
    if transfer is STORE and work:
        assert (by_name["s3"].through, by_name["s3"].public_url, by_name["s3"].lifetime) == ("store", "http://out", 60)
    if transfer is STREAMER:
        assert (by_name["streamer"].ports, by_name["streamer"].public_addresses) == ((5000, 5010), ["192.0.2.1"])
    assert "hunter2" not in description(made, operations, settings.transfers).model_dump_json()
