"""Systems as they are shown: in FirecREST's mixture of spellings, and without any secret."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flamecrest.wire.status import HEALTH_OF, BackendServiceType, GetSystemsResponse, HPCCluster
from tests.contract.exchanges import load


def recorded() -> dict[str, Any]:
    (exchange,) = [one for one in load() if one["case"] == "status.systems"]
    body: dict[str, Any] = exchange["answer"]["body"]
    return body


def test_what_a_firecrest_server_showed_is_what_we_show() -> None:
    assert GetSystemsResponse.model_validate(recorded()).model_dump(mode="json") == recorded()


def test_keys_of_a_store_have_no_place() -> None:
    (system,) = recorded()["systems"]
    store = {
        "serviceType": "s3",
        "name": "store",
        "publicUrl": "https://s3",
        "region": "r",
        "ttl": 1,
        "accessKeyId": "hunter2",
        "secretAccessKey": "hunter2",
        "privateUrl": "https://hunter2",
    }
    cluster = HPCCluster.model_validate(system | {"dataOperation": {"data_transfer": store}})
    assert "hunter2" not in repr(cluster) + cluster.model_dump_json()


def test_each_kind_of_health_stays_what_it_is() -> None:
    (system,) = recorded()["systems"]
    now = datetime(2026, 11, 21, tzinfo=UTC)
    healths = [
        HEALTH_OF[kind](service_type=kind, last_checked=now, latency=0.5, healthy=True, message=None)
        for kind in BackendServiceType
    ]
    cluster = HPCCluster.model_validate(system | {"servicesHealth": healths})
    assert [health["serviceType"] for health in cluster.model_dump(mode="json")["servicesHealth"]] == [
        kind.value for kind in BackendServiceType
    ]
    assert [type(health) for health in cluster.services_health] == [HEALTH_OF[kind] for kind in BackendServiceType]
