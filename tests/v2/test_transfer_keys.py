"""`Idempotency-Key` of requests that start a transfer."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from .conftest import Api
from .test_tracked_transfers import Client, client, http

__all__ = ["client", "http"]


def upload(path: str, size: int = 3) -> dict[str, Any]:
    return {"path": path, "transferDirectives": {"transferMethod": "direct", "fileSize": size}}


def send(client: Client, operation: str, body: dict[str, Any], key: str) -> httpx.Response:
    return client.http.post(f"{client.url}/{operation}", json=body, headers={"Idempotency-Key": key})


@pytest.mark.parametrize("operation", ["upload", "download", "sync"])
def test_a_repeated_request_has_the_same_answer(client: Client, work: str, operation: str) -> None:
    client.write("from/file")
    body: dict[str, Any] = {"path": f"{work}/from", "targetPath": f"{work}/to"}
    if operation != "sync":
        body = upload(f"{work}/from/file")
    key = uuid4().hex
    first, second = send(client, operation, body, key), send(client, operation, body, key)
    assert (first.status_code, second.status_code) == (201, 201), first.text + second.text
    assert first.json() == second.json()
    other = send(client, operation, {**body, "path": f"{work}/other"}, key)
    assert (other.status_code, "was used for another request" in other.json()["message"]) == (422, True), other.text
    assert send(client, operation, body, uuid4().hex).json() != first.json()


def test_a_path_that_is_not_utf_8(client: Client, work: str) -> None:
    key, body = uuid4().hex, {"encoding": "percent", **upload(f"{work}/%FF%0A")}
    first, second = send(client, "upload", body, key), send(client, "upload", body, key)
    assert (first.status_code, second.status_code) == (201, 201), first.text + second.text
    assert first.json() == second.json()
    other = send(client, "upload", {**body, "path": f"{work}/%FE%0A"}, key)
    assert other.status_code == 422, other.text


def test_a_request_that_has_failed_may_be_repeated(client: Client, work: str) -> None:
    key, body = uuid4().hex, upload(f"{work}/from/file")
    assert send(client, "download", body, key).status_code == 404
    client.write("from/file")
    assert send(client, "download", body, key).status_code == 201


def test_one_of_many_requests_is_done(client: Client, work: str) -> None:
    key, body = uuid4().hex, upload(f"{work}/file")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: send(client, "upload", body, key), range(8)))
    done = [one for one in answers if one.status_code == 201]
    assert len({one.json()["transferJob"]["jobId"] for one in done}) == 1
    assert {one.status_code for one in answers} <= {201, 409}, [one.text for one in answers]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 50_000], ids=["empty", "list", "nothing", "deep"])
def test_a_damaged_file_of_a_key(client: Client, api: Api, work: str, content: bytes) -> None:
    """The files are the user's own."""
    key = uuid4().hex
    assert send(client, "upload", upload(f"{work}/file"), uuid4().hex).status_code == 201
    Path(
        api.home, ".flamecrest-transfers", api.system, f"key-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    ).write_bytes(content)
    refused = send(client, "upload", upload(f"{work}/file"), key)
    assert refused.status_code in {400, 409, 422}, refused.text


def test_a_request_that_was_interrupted_is_done_again(client: Client, api: Api, work: str) -> None:
    key, body = uuid4().hex, upload(f"{work}/file")
    assert send(client, "upload", body, key).status_code == 201
    path = Path(api.home, ".flamecrest-transfers", api.system, f"key-{hashlib.sha256(key.encode()).hexdigest()[:32]}")
    Path(f"{path}-answer").unlink()
    assert send(client, "upload", body, key).status_code == 409  # it may be processed still
    path.write_text(json.dumps({**json.loads(path.read_text()), "at": 1}))
    assert send(client, "upload", body, key).status_code == 201
    assert send(client, "upload", body, key).status_code == 201
