"""Large files by the stock client: real sshd and real disks. FLAMECREST_LARGE: the greatest size in MiB (1024)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from firecrest.v2 import Firecrest

from flamecrest.sandbox.issuer import Issuer
from tests.live.process import gateway
from tests.live.site import Site, write_settings

pytestmark = [pytest.mark.live, pytest.mark.timeout(1800)]

MIB = 1024 * 1024
GREATEST = int(os.environ.get("FLAMECREST_LARGE", "1024"))


class Token:
    """The token of the user."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_access_token(self) -> str:
        return self._token


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Firecrest, Site, str]]:
    site = Site.from_environment()
    if reason := site.why_not():
        (pytest.fail if os.environ.get("FLAMECREST_LIVE") else pytest.skip)(reason)
    root = tmp_path_factory.mktemp("large")
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        issuer = stack.enter_context(portal.wrap_async_context_manager(Issuer(site.clients(), ttl=7200)))
        settings = site.settings(issuer, root / "secret", probing=False)
        server = stack.enter_context(gateway(write_settings(settings, root / "flamecrest.yaml"), root / "gateway.log"))
        made = Firecrest(server.url, Token(issuer.mint(site.user)), verify=False)
        made.timeout = 600
        stack.callback(made.close_session)
        folder = f"{site.home(site.user)}/large-{os.getpid()}"
        made.mkdir(site.system, folder)
        stack.callback(made.rm, site.system, folder)
        yield made, site, folder


def fill(path: Path, size: int) -> str:
    """Write `size` MiB that compress badly and are made fast; the SHA-256."""
    digest, block = hashlib.sha256(), bytearray(os.urandom(MIB))
    with path.open("wb") as file:
        for number in range(size):
            block[:8] = number.to_bytes(8)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def cli(firecrest: Firecrest, *words: str) -> None:
    """Run pyfirecrest's command line."""
    token = f"echo {firecrest._authorization.get_access_token()}"
    variables = {"FIRECREST_URL": firecrest._firecrest_url, "FIRECREST_TOKEN_COMMAND": token}
    program = Path(sys.executable).with_name("firecrest")
    subprocess.run([program, *words], check=True, env=os.environ | variables, stdin=subprocess.DEVNULL)


@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # httpx's, about the client's own request
@pytest.mark.parametrize(("size", "by_cli"), [(200, True), (GREATEST, False)])
def test_pyfirecrest_there_and_back(client: tuple[Firecrest, Site, str], size: int, by_cli: bool) -> None:
    firecrest, site, folder = client
    name = f"file-{size}"
    with tempfile.TemporaryDirectory() as local:
        path = Path(local) / "file"
        digest = fill(path, size)
        if by_cli:
            cli(firecrest, "upload", "--system", site.system, str(path), folder, name)
        else:
            firecrest.upload(site.system, str(path), folder, name, blocking=True)
        assert firecrest.stat(site.system, f"{folder}/{name}")["size"] == size * MIB
        path.unlink()
        if by_cli:
            cli(firecrest, "download", "--system", site.system, f"{folder}/{name}", str(path))
        else:
            firecrest.download(site.system, f"{folder}/{name}", str(path), blocking=True)
        with path.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == digest
    assert [one["name"] for one in firecrest.list_files(site.system, folder, show_hidden=True)] == [name]
    firecrest.rm(site.system, f"{folder}/{name}")


def test_full_disk(client: tuple[Firecrest, Site, str]) -> None:
    """The old file stays, the job says why, and the same transfer goes on when there is room again."""
    firecrest, site, folder = client
    small = Path(folder) / "small"
    firecrest.mkdir(site.system, str(small))
    owner = small.stat()
    with ExitStack() as stack:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size=4m,uid={owner.st_uid},mode=700", "tmpfs", small], check=True
        )
        stack.callback(lambda: subprocess.run(["umount", "-l", small], check=True))
        (small / "file").write_bytes(b"old")
        os.chown(small / "file", owner.st_uid, owner.st_gid)
        url = f"/filesystem/{site.system}/transfer/upload"
        wanted = {"path": str(small / "file"), "transferDirectives": {"transferMethod": "s3", "fileSize": 6 * MIB}}
        started = firecrest._post_request(endpoint=url, json_data=wanted).json()
        urls, job = started["transferDirectives"], started["transferJob"]["jobId"]
        refused = httpx.put(urls["partsUploadUrls"][0], content=b"x" * (6 * MIB), timeout=60)
        assert (refused.status_code, "disk full" in refused.json()["message"]) == (424, True)
        status = firecrest.job_info(site.system, job)[0]["status"]
        assert (status["state"], "Part 1" in status["stateReason"]) == ("RUNNING", True)
        assert httpx.post(urls["completeUploadUrl"], timeout=60).status_code == 400
        assert (small / "file").read_bytes() == b"old"
        subprocess.run(["mount", "-o", "remount,size=16m", small], check=True)
        assert httpx.put(urls["partsUploadUrls"][0], content=b"y" * (6 * MIB), timeout=60).status_code == 200
        assert httpx.post(urls["completeUploadUrl"], timeout=60).status_code == 200
        assert (small / "file").read_bytes() == b"y" * (6 * MIB)
        assert [path.name for path in small.iterdir()] == ["file"]
        assert firecrest.job_info(site.system, job)[0]["status"]["state"] == "COMPLETED"
