"""An object store for mover jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.store import ACCESS_KEY, REGION, SECRET_KEY, ObjectStore, object_store

from .moves import PART, Move


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(object_store()) as found:
        yield found


@pytest.fixture(scope="module")
def client(store: ObjectStore) -> Any:
    """One for all tests, because to make it takes as long as most of them."""
    client = botocore.session.Session().create_client(
        "s3", endpoint_url=store.url, region_name=REGION,
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
    )  # fmt: skip
    client.create_bucket(Bucket="bucket")
    return client


@pytest.fixture
def move(store: ObjectStore, client: Any, tmp_path: Path) -> Move:
    folder = tmp_path / "work"
    folder.mkdir()
    return Move(folder.rename(tmp_path / f"work-{os.urandom(4).hex()}"), store, client, 2 * PART + 3)
