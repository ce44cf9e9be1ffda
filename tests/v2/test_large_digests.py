"""The SHA-256 that a client gives for a large file: when the upload is started, or when it is completed."""

from __future__ import annotations

import base64
import hashlib

import httpx
import pytest

from .test_large_files import Transfer, names, read


@pytest.mark.parametrize("given", ["first", "last"])
def test_checksum_of_the_whole_file(api, work, given: str) -> None:
    with api.http() as http, httpx.Client(timeout=30, verify=False) as web:
        digest = hashlib.sha256(b"abc")
        directives = {"transferMethod": "direct", "fileSize": 3}
        directives |= {"sha256": digest.hexdigest()} if given == "first" else {}
        body = {"path": f"{work}/file", "transferDirectives": directives}
        transfer = Transfer(http, api.system, http.post(f"/filesystem/{api.system}/transfer/upload", json=body))
        assert web.put(transfer.parts[0], content=b"abd").status_code == 200
        wanted = {"x-amz-checksum-sha256": base64.b64encode(digest.digest()).decode()} if given == "last" else {}
        refused = web.post(transfer.complete, headers=wanted)
        assert refused.status_code == 400
        assert "SHA-256" in refused.json()["message"]
        assert names(http, api, work) != ["file"]
        assert web.put(transfer.parts[0], content=b"abc").status_code == 200
        other = {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(b"abd").digest()).decode()}
        assert web.post(transfer.complete, headers=other).status_code == 400
        assert web.post(transfer.complete, headers=wanted).status_code == 200
        assert read(http, api, f"{work}/file") == b"abc"
        shown = http.get(f"/filesystem/{api.system}/transfer/{transfer.id}").json()["transfer"]
        assert shown["sha256"] == digest.hexdigest()
