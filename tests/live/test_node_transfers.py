"""Transfers by jobs on real Slurm: the streamer and magic-wormhole, with unchanged clients from PyPI and with ours.

The node has Debian's magic-wormhole; the user's client, the mailbox server and the transit relay are those of PyPI.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from firecrest.v2 import AsyncFirecrest

from flamecrest.sandbox.issuer import Issuer
from tests.live.process import gateway
from tests.live.site import Site, write_settings
from tests.v2.test_pyfirecrest import Blocking
from tests.v2.test_user_pages import example, run_example

FLAMECREST = Path(sys.executable).with_name("flamecrest")
WORMHOLE = Path(__file__).parents[2] / ".venv-wormhole/bin"
CONTENT = os.urandom(1024 * 1024) * 30
PORTS = [21000, 21999]


class Token:
    def __init__(self, token: str) -> None:
        self._token = token

    def get_access_token(self) -> str:
        return self._token


class Place:
    """A gateway with one transfer method, and a folder of the user."""

    def __init__(self, site: Site, issuer: Issuer, url: str, folder: str) -> None:
        self.site, self.url, self.folder = site, url, folder
        self.token = issuer.mint(site.user)
        headers = {"Authorization": f"Bearer {self.token}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=60, verify=False)
        self.client = Blocking(lambda: AsyncFirecrest(url, Token(self.token), verify=False))

    def start(self, direction: str, path: str, **directives: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The job of a transfer, and its directives."""
        body = {"path": path, "account": self.site.account, "transferDirectives": directives}
        response = self.http.post(f"/filesystem/{self.site.system}/transfer/{direction}", json=body)
        assert response.status_code == 201, response.text
        return response.json()["transferJob"], response.json()["transferDirectives"]

    def log(self, job: dict[str, Any], kind: str) -> str:
        view = f"/filesystem/{self.site.system}/ops/view"
        return str(self.http.get(view, params={"path": job["logs"][kind]}).json().get("output", ""))

    def worked(self, job: dict[str, Any]) -> None:
        assert self.ended(job) == "COMPLETED", self.log(job, "errorLog")
        assert "File was successfully" in self.log(job, "outputLog")

    def ended(self, job: dict[str, Any]) -> str:
        until = time.monotonic() + 100
        while True:
            shown = self.http.get(f"/compute/{self.site.system}/jobs/{job['jobId']}").json()
            state = str(shown["jobs"][0]["status"]["state"])
            if state not in ("PENDING", "RUNNING"):
                return state
            assert time.monotonic() < until, self.log(job, "errorLog")
            time.sleep(0.2)

    def entries(self) -> list[str]:
        listed = self.http.get(
            f"/filesystem/{self.site.system}/ops/ls", params={"path": self.folder, "showHidden": "true"}
        ).json()
        return [entry["name"] for entry in listed["output"] if entry["name"] not in (".", "..")]


@pytest.fixture(scope="module")
def open_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[dict[str, Any]], Place]]:
    """Starts a gateway with a transfer method."""
    site = Site.from_environment()
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        issuer = stack.enter_context(portal.wrap_async_context_manager(Issuer(site.clients(), ttl=7200)))

        def start(transfer: dict[str, Any]) -> Place:
            root = tmp_path_factory.mktemp("node")
            settings = site.settings(issuer, root / "secret", probing=False)
            settings["clusters"][0].setdefault("data_operation", {})["data_transfer"] = transfer
            config = write_settings(settings, root / "flamecrest.yaml")
            server = stack.enter_context(gateway(config, root / "gateway.log"))
            place = Place(site, issuer, server.url, f"{site.home(site.user)}/node-{os.getpid()}-{root.name}")
            stack.callback(place.http.close)
            place.client.mkdir(site.system, place.folder)
            stack.callback(place.client.rm, site.system, place.folder)
            return place

        yield start


@pytest.fixture(scope="module")
def streamer(open_place: Callable[[dict[str, Any]], Place]) -> Place:
    given = {"service_type": "streamer", "port_range": PORTS, "public_ips": ["127.0.0.1"], "wait_timeout": 100}
    return open_place(given)


@pytest.fixture(scope="module")
def wormhole(
    open_place: Callable[[dict[str, Any]], Place], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """With a mailbox server and a transit relay of its own."""
    if not WORMHOLE.exists():
        (pytest.fail if os.environ.get("FLAMECREST_LIVE") else pytest.skip)("there is no .venv-wormhole")
    folder, ports = tmp_path_factory.mktemp("wormhole"), [free_port(), free_port()]
    databases = [f"--{name}-db={folder / name}" for name in ("usage", "channel")]
    services = (["wormhole-mailbox", *databases], ["transitrelay"])
    with ExitStack() as stack:
        for service, port in zip(services, ports, strict=True):
            argv = [str(WORMHOLE / "twist"), *service, f"--port=tcp:{port}:interface=127.0.0.1"]
            process = subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
        for port in ports:
            wait_for_port(port)
        mailbox, relay = f"ws://127.0.0.1:{ports[0]}/v1", f"tcp:127.0.0.1:{ports[1]}"
        given = {"service_type": "wormhole", "mailbox_url": mailbox, "transit_relay": relay, "install": False}
        with pytest.MonkeyPatch.context() as variables:
            variables.setenv("WORMHOLE_RELAY_URL", mailbox)
            variables.setenv("WORMHOLE_TRANSIT_HELPER", relay)
            variables.setenv("PATH", f"{WORMHOLE}:{os.environ['PATH']}")  # pyfirecrest runs `wormhole`
            yield open_place(given | {"wait_timeout": 100})


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for_port(port: int) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.1)
        else:
            return


def test_pyfirecrest_by_the_streamer(streamer: Place, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(CONTENT)
    system, given = streamer.site.system, {"account": streamer.site.account, "transfer_method": "streamer"}
    streamer.client.upload(system, str(tmp_path / "here"), streamer.folder, "it's one", **given)
    streamer.client.download(system, f"{streamer.folder}/it's one", str(tmp_path / "back"), **given)
    assert (tmp_path / "back").read_bytes() == CONTENT
    assert streamer.entries() == ["it's one"]


def test_our_client_by_the_streamer(streamer: Place, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(CONTENT)
    path = f"{streamer.folder}/two"
    for direction, command, name in (("upload", "send", "here"), ("download", "receive", "back")):
        job, directives = streamer.start(direction, path, transferMethod="streamer")
        (tmp_path / "answer").write_text(json.dumps({"transferDirectives": directives}))
        argv = [str(FLAMECREST), "stream", command, "--coordinates", str(tmp_path / "answer")]
        subprocess.run([*argv, str(tmp_path / name)], check=True)
        streamer.worked(job)
    assert (tmp_path / "back").read_bytes() == CONTENT


def test_a_folder_that_takes_no_new_file(streamer: Place, tmp_path: Path) -> None:
    """The existing file is written into: its content comes to the job's folder first."""
    (tmp_path / "here").write_bytes(b"new")
    files, folder = f"/filesystem/{streamer.site.system}/ops", f"{streamer.folder}/closed"
    assert streamer.http.post(f"{files}/mkdir", json={"path": folder}).status_code == 201
    assert streamer.http.put(f"{files}/upload", params={"path": f"{folder}/file"}, content=b"older").status_code < 300
    assert streamer.http.put(f"{files}/chmod", json={"path": folder, "mode": "500"}).status_code == 200
    try:
        job, directives = streamer.start("upload", f"{folder}/file", transferMethod="streamer")
        variables = {**os.environ, "FLAMECREST_COORDINATES": directives["coordinates"]}
        subprocess.run([str(FLAMECREST), "stream", "send", str(tmp_path / "here")], check=True, env=variables)
        streamer.worked(job)
        got = streamer.http.get(f"{files}/download", params={"path": f"{folder}/file"})
        assert got.content == b"new"
    finally:
        assert streamer.http.put(f"{files}/chmod", json={"path": folder, "mode": "700"}).status_code == 200


def test_a_cancelled_job_of_the_streamer(streamer: Place) -> None:
    job, _ = streamer.start("upload", f"{streamer.folder}/three", transferMethod="streamer")
    assert streamer.http.delete(f"/compute/{streamer.site.system}/jobs/{job['jobId']}").status_code == 204
    assert streamer.ended(job) == "CANCELLED"
    assert "three" not in str(streamer.entries())


def test_pyfirecrest_uploads_by_wormhole(wormhole: Place, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(CONTENT)
    system, given = wormhole.site.system, {"account": wormhole.site.account, "transfer_method": "wormhole"}
    wormhole.client.upload(system, str(tmp_path / "here"), wormhole.folder, "it's one", **given)
    assert wormhole.entries() == ["it's one"]
    job, directives = wormhole.start("download", f"{wormhole.folder}/it's one", transferMethod="wormhole")
    code = directives["wormholeCode"]
    argv = [str(WORMHOLE / "wormhole"), "receive", "--accept-file", "--hide-progress", "-o", str(tmp_path / "back")]
    subprocess.run([*argv, code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=150)
    wormhole.worked(job)
    assert (tmp_path / "back").read_bytes() == CONTENT
    assert code not in wormhole.log(job, "errorLog") + wormhole.log(job, "outputLog")


def test_example_of_wormhole_on_the_page_about_transfers(wormhole: Place, tmp_path: Path) -> None:
    site, token = wormhole.site, wormhole.token
    command, account = example("wormhole send"), site.account or ""
    run_example(command, wormhole.url, site.system, token, wormhole.folder, tmp_path, ACCOUNT=account)
    assert (tmp_path / "back.tar").read_bytes() == (tmp_path / "data.tar").read_bytes()
    wormhole.client.rm(site.system, f"{wormhole.folder}/data.tar")


def test_a_cancelled_job_of_wormhole(wormhole: Place) -> None:
    job, _ = wormhole.start(
        "upload", f"{wormhole.folder}/two", transferMethod="wormhole", wormholeCode="9-nobody-there"
    )
    assert wormhole.http.delete(f"/compute/{wormhole.site.system}/jobs/{job['jobId']}").status_code == 204
    assert wormhole.ended(job) == "CANCELLED"
    assert "two" not in str(wormhole.entries())
