"""`check --connect` tries object stores as clients will use them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from flamecrest.cli.checks.running import CheckResult
from flamecrest.cli.connect import check_stores
from flamecrest.sandbox.store import ACCESS_KEY, REGION, SECRET_KEY, ObjectStore, object_store
from flamecrest.server.settings import Settings

pytestmark = pytest.mark.anyio


async def checked(**store: Any) -> CheckResult:
    given = {
        "service_type": "s3", "name": "ceph", "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY,
        "region": REGION, "ttl": 60, **store,
    }  # fmt: skip
    cluster = {
        "ssh": {"host": "h"},
        "scheduler": {"type": "slurm", "version": "1"},
        "data_operation": {"data_transfer": given},
    }
    settings = Settings.model_validate(
        {
            "auth": {"authentication": {"public_certs": ["https://id.example.org/certs"]}},
            "ssh_credentials": {"url": "https://keys.example.org"},
            "clusters": [{**cluster, "name": name} for name in ("a", "b")],
        }
    )
    async with httpx.AsyncClient(trust_env=False, timeout=50, verify=False) as client:
        (found,) = await check_stores(settings, "ann", client)  # one store of two clusters
    assert found.subject == "a: transfers through the store"
    return found


def objects(place: ObjectStore) -> list[str]:
    """The requests that have removed objects."""
    return [one for one in place.gate.seen if one.startswith("DELETE")]


async def test_stores() -> None:
    async with object_store() as place:
        found = await checked(private_url=place.url, public_url=place.url)
        assert found.ok, found
        assert found.message.startswith(f"clients upload to and download from {place.url}, bucket ")
        assert objects(place)
        wrong = await checked(private_url=place.url, public_url=place.url, secret_access_key="x")
        assert not wrong.ok
        assert "secret_access_key" in wrong.advice
        other = place.url.replace("127.0.0.1", "localhost")  # which is another Host than the one that is signed
        proxied = await checked(private_url=place.url, public_url=f"{other}/prefix")
        assert not proxied.ok
        assert proxied.message.startswith(f"PUT by a presigned URL of {other}: status ")
        assert "public_url" in proxied.advice
    down = await checked(private_url=place.url, public_url=place.url)
    assert not down.ok
