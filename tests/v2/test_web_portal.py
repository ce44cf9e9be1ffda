"""The calls of the web portal firecrest-ui, spelled as its server spells them, and the fields that its pages read.

The portal itself is in no package registry, so it does not run here: method, path, query and body of each request
are those of its source (app/apis of firecrest-ui).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from .test_job_life import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from .conftest import Api

JSON = {"Content-Type": "application/json"}  # also sent with requests that have no body


@pytest.fixture
def portal(api: Api) -> Iterator[httpx.Client]:
    with api.http() as client:
        yield client


def given(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def test_dashboard(api: Api, portal: httpx.Client) -> None:
    (system,) = (one for one in given(portal.get("/status/systems"))["systems"] if one["name"] == api.system)
    kinds = {one["serviceType"] for one in system["servicesHealth"] or ()}
    assert kinds <= {"scheduler", "ssh", "filesystem", "s3"}
    assert all(isinstance(one["path"], str) for one in system["fileSystems"])
    assert {"host", "port"} <= system["ssh"].keys()
    assert {"type", "version"} <= system["scheduler"].keys()
    user = given(portal.get(f"/status/{api.system}/userinfo"))
    assert user["group"]["name"]
    assert all(group["name"] for group in user["groups"])
    for name in ("nodes", "partitions", "reservations"):
        assert name in given(portal.get(f"/status/{api.system}/{name}"))


def test_a_job_is_submitted_shown_and_cancelled(api: Api, portal: httpx.Client, work: str) -> None:
    jobs = f"/compute/{api.system}/jobs"
    job = {
        "script": "#!/bin/bash\necho $GREETING\n",
        "working_directory": work,
        "account": api.account,
        "name": "run.sh",
        "standard_input": "",  # of form fields that were left empty
        "standard_output": "out.txt",
        "standard_error": "",
        "environment": {"GREETING": "hello"},
    }
    job_id = given(portal.post(jobs, json={"job": job}), 201)["jobId"]
    listed = given(portal.get(f"{jobs}?account={api.account}&allusers=false"))["jobs"]
    assert [one["name"] for one in listed if one["jobId"] == job_id] == ["run.sh"]
    portal.base_url = f"{api.url}{jobs}"
    shown = until(portal, job_id, "COMPLETED")
    assert {"state", "stateReason", "exitCode", "interruptSignal"} <= shown["status"].keys()
    assert {"elapsed", "start", "end", "suspended", "limit"} <= shown["time"].keys()
    assert (shown["workingDirectory"], shown["account"], shown["user"]) == (work, api.account, api.user)
    portal.base_url = api.url
    (metadata,) = given(portal.get(f"{jobs}/{job_id}/metadata"))["jobs"]
    assert metadata["standardOutput"].endswith("out.txt")
    tail = portal.get(f"/filesystem/{api.system}/ops/tail?{urlencode({'path': f'{work}/out.txt', 'lines': '100'})}")
    assert given(tail)["output"]["content"] == "hello\n"
    assert portal.delete(f"{jobs}/{job_id}").status_code == 204


def test_file_browser(api: Api, portal: httpx.Client, work: str) -> None:
    ops = f"/filesystem/{api.system}/ops"
    given(portal.post(f"{ops}/mkdir", json={"path": f"{work}/sub", "parent": False}), 201)
    query = urlencode({"path": f"{work}/sub"})
    assert portal.post(f"{ops}/upload?{query}", files={"file": ("a file", b"content")}).status_code == 204
    path = f"{work}/sub/a file"
    (listed,) = given(portal.get(f"{ops}/ls?{query}"))["output"]
    assert (listed["name"], listed["type"], listed["size"]) == ("a file", "-", "7")
    assert given(portal.get(f"{ops}/checksum?{urlencode({'path': path})}"))["output"]["algorithm"] == "SHA256"
    assert portal.get(f"{ops}/download?{urlencode({'path': path})}").content == b"content"
    given(portal.put(f"{ops}/chmod", json={"path": path, "mode": "640"}))
    given(portal.put(f"{ops}/chown", json={"path": path, "owner": api.user, "group": None}))
    given(portal.post(f"{ops}/symlink", json={"path": path, "linkPath": f"{work}/link"}), 201)
    for folder in ("sub", "link"):
        assert portal.delete(f"{ops}/rm?path={work}/{folder}", headers=JSON).status_code == 204


@pytest.mark.parametrize("account", [None, "", "own"])
def test_a_large_file_is_uploaded_and_downloaded(
    api: Api, portal: httpx.Client, work: str, account: str | None
) -> None:
    transfer = f"/filesystem/{api.system}/transfer"
    file = {"sourcePath": f"{work}/large", "account": api.account if account == "own" else account}
    wanted = {**file, "transferDirectives": {"fileSize": 3, "transferMethod": "s3"}}
    upload = given(portal.post(f"{transfer}/upload", json=wanted), 201)["transferDirectives"]
    assert upload["completeUploadUrl"]
    assert len(upload["partsUploadUrls"]) == 1
    portal.post(f"/filesystem/{api.system}/ops/upload?path={work}", files={"file": ("large", b"abc")})
    wanted = {**file, "transferDirectives": {"transferMethod": "s3"}}
    download = given(portal.post(f"{transfer}/download", json=wanted), 201)
    assert download["transferDirectives"]["downloadUrl"]
    assert download["transferJob"]["jobId"]
