"""Test archives, and the requests that send and fetch them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from typing import Any

import httpx

from .conftest import Api


def bulk(api: Api, end: str) -> str:
    return f"/filesystem/{api.system}/bulk/{end}"


def packed(files: Mapping[str, bytes | None], **how: Any) -> bytes:
    """A tar archive of files (bytes) and folders (None)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **how) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size, info.mtime = len(content), 1_600_000_000
            archive.addfile(info, io.BytesIO(content or b""))
    return out.getvalue()


def send(client: httpx.Client, api: Api, folder: str, archive: bytes, **params: Any) -> httpx.Response:
    return client.post(bulk(api, "upload"), params={"path": folder, **params}, content=archive)


def fetch(client: httpx.Client, api: Api, paths: list[str], accept: str = "*/*", **more: Any) -> httpx.Response:
    return client.post(bulk(api, "download"), json={"paths": paths, **more}, headers={"Accept": accept})


def contents(data: bytes) -> dict[str, bytes | None]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
        return {one.name: file.read() if (file := archive.extractfile(one)) is not None else None for one in archive}


def listed(client: httpx.Client, api: Api, folder: str) -> list[str]:
    answer = client.get(
        f"/filesystem/{api.system}/ops/ls", params={"path": folder, "recursive": True, "showHidden": True}
    )
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.json()["output"]]
