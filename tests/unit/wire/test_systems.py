"""Systems in responses: FirecREST's spellings, and no secrets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flamecrest.wire.status import HEALTH_OF, BackendServiceType, GetSystemsResponse, HPCCluster
from tests.contract.exchanges import load


def recorded() -> dict[str, Any]:
    (exchange,) = [one for one in load() if one["case"] == "status.systems"]
    body: dict[str, Any] = exchange["answer"]["body"]
    return body


def test_recorded_firecrest_systems_round_trip() -> None:
    expected = recorded()
    for system in expected["systems"]:
        system["transferMethods"] = []  # which FirecREST does not have
        system["ssh"]["nodes"] = None  # the same
    assert GetSystemsResponse.model_validate(recorded()).model_dump(mode="json") == expected


def test_object_store_keys_are_not_serialized() -> None:
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


def test_health_kinds_round_trip() -> None:
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
