"""What tests of the object store share: requests of its clients, and the ends of transfers."""

from __future__ import annotations

import time
from typing import Any

import httpx

from flamecrest.sandbox.centre import LOCAL_SYSTEM, SYSTEM
from tests.v2.conftest import Api
from tests.v2.test_large_files import Transfer

MIB = 1024 * 1024
PATIENCE = 100.0  # seconds until something must have happened, on a machine however slow
MOVERS = {"job": SYSTEM, "gateway": LOCAL_SYSTEM}


def ended(transfer: Transfer) -> dict[str, Any]:
    """The job of a transfer when it has ended."""
    until = time.monotonic() + PATIENCE
    while (job := transfer.job())["status"]["state"] in {"PENDING", "RUNNING"}:
        assert time.monotonic() < until, job
        time.sleep(0.1)
    return job


def view(http: httpx.Client, api: Api, transfer: str) -> dict[str, Any]:
    response = http.get(f"/filesystem/{api.system}/transfer/{transfer}")
    assert response.status_code == 200, response.text
    return dict(response.json()["transfer"])


def send(web: httpx.Client, transfer: Transfer, data: bytes) -> None:
    """Upload all parts, and complete the object."""
    size = transfer.directives["maxPartSize"]
    listed = ""
    for number, url in enumerate(transfer.parts, 1):
        response = web.put(url, content=data[(number - 1) * size : number * size])
        assert response.status_code == 200, response.text
        listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{response.headers['etag']}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
    response = web.post(transfer.complete, content=body)
    assert response.status_code == 200, response.text
