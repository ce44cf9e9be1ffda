"""Uploads and downloads by jobs: the streamer on the sandbox's toy Slurm, magic-wormhole on its local scheduler."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from anyio.from_thread import start_blocking_portal
from firecrest import ClientCredentialsAuth
from firecrest.v2 import AsyncFirecrest

from flamecrest.sandbox.centre import LOCAL_SYSTEM, Centre
from flamecrest.server.transfer.streamer.coordinates import Coordinates
from tests.live.process import gateway

from .conftest import Api
from .test_pyfirecrest import Blocking
from .test_user_pages import blocks, example, run

LARGE = os.urandom(3_000_000)
PORTS = [20000, 30000]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A gateway whose first cluster has the streamer, and whose second one has magic-wormhole."""
    folder = tmp_path_factory.mktemp("streamer")
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(Centre(folder / "centre", with_local=True)) as centre,
    ):
        config = centre.config()
        streamer = {"service_type": "streamer", "host": "127.0.0.1", "port_range": PORTS, "public_ips": ["127.0.0.1"]}
        config["clusters"][0]["data_operation"]["data_transfer"] = streamer
        wormhole = {"service_type": "wormhole", "mailbox_url": "ws://127.0.0.1:9/v1", "install": False}
        config["clusters"][1]["data_operation"] = {"data_transfer": wormhole}
        (folder / "flamecrest.yaml").write_text(yaml.safe_dump(config))
        client = next(name for name, (_, of) in centre.issuer.clients.items() if of == "fireuser")
        with gateway(folder / "flamecrest.yaml", folder / "gateway.log") as server:
            yield Api(
                server.url,
                centre.issuer.token_url,
                client,
                centre.issuer.clients[client][0],
                centre.token("fireuser"),
                centre.system,
                str(centre.home("fireuser")),
                "test",
                False,
                server.log,
            )


@pytest.fixture
def client(api: Api) -> Blocking:
    def make() -> AsyncFirecrest:
        return AsyncFirecrest(api.url, ClientCredentialsAuth(api.client_id, api.secret, api.token_url), verify=False)

    return Blocking(make)


def test_pyfirecrest(api: Api, client: Blocking, work: str, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(LARGE)
    given = {"account": api.account, "transfer_method": "streamer"}
    client.upload(api.system, str(tmp_path / "here"), work, "it's.bin", **given)
    assert Path(work, "it's.bin").read_bytes() == LARGE
    client.download(api.system, f"{work}/it's.bin", str(tmp_path / "back"), **given)
    assert (tmp_path / "back").read_bytes() == LARGE
    assert [path.name for path in Path(work).iterdir()] == ["it's.bin"]
    with api.http() as http:
        for direction in ("upload", "download"):
            shown = tracked(http, api, f"{work}/it's.bin", direction)
            shown = eventually_ended(http, api, shown["id"])
            assert (shown["method"], shown["state"], shown["error"]) == ("streamer", "COMPLETED", None), shown
            assert (shown["bytesDone"], shown["bytesTotal"]) == (len(LARGE), len(LARGE))


def tracked(http: httpx.Client, api: Api, path: str, direction: str) -> dict[str, Any]:
    """The newest transfer of a path. Its record is written in the background."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        listed = http.get(f"/filesystem/{api.system}/transfer")
        assert listed.status_code == 200, listed.text
        for one in listed.json()["transfers"]:
            if (one["path"], one["direction"]) == (path, direction):
                return dict(one)
        time.sleep(0.05)
    raise AssertionError(listed.text)


def eventually_ended(http: httpx.Client, api: Api, transfer: str) -> dict[str, Any]:
    until = time.monotonic() + 40
    while True:
        shown = http.get(f"/filesystem/{api.system}/transfer/{transfer}").json()["transfer"]
        if shown["ended"] is not None:
            return dict(shown)
        assert time.monotonic() < until, shown
        time.sleep(0.1)


def test_a_transfer_is_shown_cancelled_and_retried(api: Api, work: str) -> None:
    Path(work, "file").write_bytes(b"abc")
    body = {"path": f"{work}/file", "account": "test", "transferDirectives": {"transferMethod": "streamer"}}
    with api.http() as http:
        transfers = f"/filesystem/{api.system}/transfer"
        begun = http.post(f"{transfers}/download", json=body).json()
        shown = tracked(http, api, f"{work}/file", "download")
        assert (shown["method"], shown["jobId"]) == ("streamer", begun["transferJob"]["jobId"])
        assert (shown["logs"], shown["bytesTotal"]) == (begun["transferJob"]["logs"], 3)
        assert shown["state"] in {"PENDING", "RUNNING"}
        # the job's id is not that of the transfer, which is no job of its own
        assert http.get(f"/compute/{api.system}/jobs/{shown['id']}").status_code == 404
        assert http.delete(f"/compute/{api.system}/jobs/{shown['id']}").status_code == 404
        assert http.delete(f"{transfers}/{shown['id']}").status_code == 204
        assert eventually_ended(http, api, shown["id"])["state"] == "CANCELLED"
        again = http.post(f"{transfers}/{shown['id']}/retry")
        assert again.status_code == 201, again.text
        secrets = [
            Coordinates.decoded(one["transferDirectives"]["coordinates"]).secret for one in (begun, again.json())
        ]
        assert len(set(secrets)) == 2
        assert http.delete(f"/compute/{api.system}/jobs/{again.json()['transferJob']['jobId']}").status_code == 204


def test_the_reason_of_a_failure(api: Api, work: str) -> None:
    Path(work, "file").write_bytes(b"abc")
    body = {"path": f"{work}/file", "targetPath": f"{work}/none/file", "account": "test"}
    with api.http() as http:
        job = http.post(f"/filesystem/{api.system}/transfer/mv", json=body).json()["transferJob"]["jobId"]
        shown = eventually_ended(http, api, tracked(http, api, f"{work}/file", "internal")["id"])
        assert (shown["jobId"], shown["state"]) == (job, "FAILED")
        assert "Unable to move files: " in shown["error"]
        assert "No such file or directory" in shown["error"]
        assert "Check the path" in shown["hint"]
        assert http.get(f"/filesystem/{api.system}/transfer/{job}").json()["transfer"]["id"] == shown["id"]


def test_a_request_that_is_repeated_is_one_transfer(api: Api, work: str) -> None:
    Path(work, "file").write_bytes(b"abc")
    body = {"path": f"{work}/file", "targetPath": f"{work}/other", "account": "test"}
    with api.http() as http:
        url, key = f"/filesystem/{api.system}/transfer", {"Idempotency-Key": f"repeated-{Path(work).name}"}
        jobs = [http.post(f"{url}/cp", json=body, headers=key).json()["transferJob"]["jobId"]]
        eventually_ended(http, api, tracked(http, api, f"{work}/file", "internal")["id"])
        jobs.append(http.post(f"{url}/cp", json=body, headers=key).json()["transferJob"]["jobId"])
        last = http.post(f"{url}/cp", json={**body, "path": f"{work}/other", "targetPath": f"{work}/third"})
        assert (last.status_code, jobs[0]) == (201, jobs[1])
        tracked(http, api, f"{work}/other", "internal")  # records are written one after the other
        listed = http.get(url).json()["transfers"]
        assert [one["path"] for one in listed if one["jobId"] == jobs[0]] == [f"{work}/file"]


def test_the_answer(api: Api, work: str) -> None:
    body = {"path": f"{work}/file", "account": "test", "transferDirectives": {"transferMethod": "streamer"}}
    with api.http() as http:
        response = http.post(f"/filesystem/{api.system}/transfer/upload", json=body)
        assert response.status_code == 201, response.text
        directives, job = response.json()["transferDirectives"], response.json()["transferJob"]
        assert http.delete(f"/compute/{api.system}/jobs/{job['jobId']}").status_code == 204
    assert directives["transferMethod"] == "streamer"
    coordinates = Coordinates.decoded(directives["coordinates"])
    assert (coordinates.addresses, list(coordinates.ports)) == (("127.0.0.1",), PORTS)
    assert coordinates.secret not in api.log.read_text()


def test_a_job_is_running_when_it_listens(api: Api, work: str) -> None:
    body = {"path": f"{work}/file", "account": "test", "transferDirectives": {"transferMethod": "streamer"}}
    with api.http() as http:
        job = http.post(f"/filesystem/{api.system}/transfer/upload", json=body).json()["transferJob"]
        url = f"/compute/{api.system}/jobs/{job['jobId']}"
        until = time.monotonic() + 40
        while (state := http.get(url).json()["jobs"][0]["status"]["state"]) == "PENDING":
            assert time.monotonic() < until
        assert (state, "Listening" in Path(job["logs"]["errorLog"]).read_text()) == ("RUNNING", True)
        assert http.delete(url).status_code == 204


@pytest.mark.parametrize(
    ("direction", "path", "status", "text"),
    [
        ("upload", "none/file", 404, "No such file or directory"),
        ("upload", "", 400, "Is a directory"),
        ("download", "none", 404, "No such file or directory"),
        ("download", "", 400, "Is a directory"),
    ],
)
def test_a_wrong_path(api: Api, work: str, direction: str, path: str, status: int, text: str) -> None:
    body = {"path": f"{work}/{path}", "account": "test", "transferDirectives": {"transferMethod": "streamer"}}
    with api.http() as http:
        refused = http.post(f"/filesystem/{api.system}/transfer/{direction}", json=body)
    assert (refused.status_code, text in refused.json()["message"]) == (status, True), refused.text


def test_status_and_other_methods(api: Api, work: str) -> None:
    with api.http() as http:
        shown = systems(http)[api.system]["dataOperation"]["data_transfer"]
        assert (shown["serviceType"], shown["portRange"]) == ("streamer", PORTS)
        body = {"path": f"{work}/file", "transferDirectives": {"transferMethod": "wormhole", "wormholeCode": "1-a-b"}}
        refused = http.post(f"/filesystem/{api.system}/transfer/upload", json=body)
    assert "(available: s3, direct, streamer)" in refused.json()["message"]


def systems(http: httpx.Client) -> dict[str, dict]:
    return {one["name"]: one for one in http.get("/status/systems").json()["systems"]}


def test_wormhole(api: Api, work: str) -> None:
    Path(work, "file").write_bytes(b"abc")
    with api.http() as http:
        shown = systems(http)[LOCAL_SYSTEM]["dataOperation"]["data_transfer"]
        assert (shown["serviceType"], shown["mailboxUrl"]) == ("wormhole", "ws://127.0.0.1:9/v1")
        transfer = f"/filesystem/{LOCAL_SYSTEM}/transfer"
        given = {"transferMethod": "wormhole", "wormholeCode": "7-crossword-clockwork"}
        for direction, directives in (("upload", given), ("download", {"transferMethod": "wormhole"})):
            body = {"path": f"{work}/file", "transferDirectives": directives}
            response = http.post(f"{transfer}/{direction}", json=body)
            assert response.status_code == 201, response.text
            code = response.json()["transferDirectives"]["wormholeCode"]
            assert (
                code == given["wormholeCode"] if direction == "upload" else re.fullmatch(r"\d{6}(-[a-z]{5}){3}", code)
            )
            job = response.json()["transferJob"]
            assert ended(http, job["jobId"]) == "FAILED"  # there is no mailbox server, or no magic-wormhole
            logs = Path(job["logs"]["errorLog"]).read_text() + Path(job["logs"]["outputLog"]).read_text()
            assert f"Unable to {direction} the file" in logs
            assert code not in api.log.read_text() + logs
        wrong = {"path": f"{work}/file", "transferDirectives": {**given, "wormholeCode": "--help"}}
        refused = http.post(f"{transfer}/upload", json=wrong)
        assert (refused.status_code, "`wormholeCode` must be" in refused.json()["message"]) == (400, True)


def ended(http: httpx.Client, job_id: str) -> str:
    """The state that a job on the local scheduler ends in."""
    until = time.monotonic() + 40
    while True:
        state = http.get(f"/compute/{LOCAL_SYSTEM}/jobs/{job_id}").json()["jobs"][0]["status"]["state"]
        if state not in ("PENDING", "RUNNING"):
            return str(state)
        assert time.monotonic() < until, state
        time.sleep(0.1)


def test_examples_of_the_streamer_on_the_page_about_transfers(
    api: Api, work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    run(example("flamecrest stream"), api, work, tmp_path)
    assert (tmp_path / "back.tar").read_bytes() == Path(work, "data.tar").read_bytes()
    (tmp_path / "data.tar").write_bytes(LARGE)
    shown = run([sys.executable, "-c", blocks("transfers.md", "python")[2]], api, work, tmp_path)
    assert shown.split() == [str(len(LARGE))]
    assert Path(work, "data.tar").read_bytes() == (tmp_path / "again.tar").read_bytes() == LARGE
