"""The unchanged pyfirecrest 3.10: every method of its v2 client but external transfers, in its three forms."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from firecrest import ClientCredentialsAuth
from firecrest.FirecrestException import TransferJobFailedException, UnexpectedStatusException
from firecrest.v2 import AsyncFirecrest, Firecrest

pytestmark = pytest.mark.timeout(120)

SCRIPT = '#!/bin/bash\n#SBATCH --job-name=twin\necho out "$GREETING"\necho err >&2\nsleep 0.5\n'
LONG = "#!/bin/bash\nsleep 100\n"


class Blocking:
    """The asynchronous client, called as the synchronous one is."""

    def __init__(self, make) -> None:
        self._make = make
        self._version: str | None = None

    def set_api_version(self, version: str) -> None:
        self._version = version

    def __getattr__(self, name):
        async def call(args, kwargs):
            client = self._make()
            if self._version is not None:
                client.set_api_version(self._version)
            try:
                done = getattr(client, name)(*args, **kwargs)
                return await done if inspect.isawaitable(done) else done
            finally:
                await client.close_session()

        return lambda *args, **kwargs: anyio.run(call, args, kwargs)


@pytest.fixture(params=["sync", "async"])
def client(request, api):
    def make(kind):
        # without CA certificates: the API is plain HTTP, and loading them takes longer than most calls
        return kind(api.url, ClientCredentialsAuth(api.client_id, api.secret, api.token_url), verify=False)

    if request.param == "async":
        yield Blocking(lambda: make(AsyncFirecrest))
        return
    made = make(Firecrest)
    yield made
    made.close_session()


def refused(call, *args, status: int, text: str = "", **kwargs) -> None:
    with pytest.raises(UnexpectedStatusException) as caught:
        call(*args, **kwargs)
    answer = caught.value.responses[-1]
    assert answer.status_code == status
    assert text in answer.json()["message"]


def test_status(client, api):
    assert client.server_version() == "2.5.7"
    assert [system["name"] for system in client.systems()] == [api.system]
    assert {"IDLE", "MIXED", "ALLOCATED", "RESERVED"} & {
        state for node in client.nodes(api.system) for state in node["state"]
    }
    assert "debug" in [partition["name"] for partition in client.partitions(api.system)]
    assert [one["name"] for one in client.reservations(api.system)] == ["testres"]
    info = client.userinfo(api.system)
    assert info["user"]["name"] == info["group"]["name"] == api.user
    assert {"name": "test", "default": True} in info["accounts"]
    refused(client.nodes, "nosuch", status=404, text="System not found")


def test_files(client, api, work, tmp_path):
    system, path = api.system, f"{work}/a file's name"
    local = tmp_path / "local"
    local.write_bytes(b"line 1\nline 2\nline 3\n")
    assert client.upload(system, str(local), work, "a file's name") is None
    assert [entry["name"] for entry in client.list_files(system, work)] == ["a file's name"]
    assert client.stat(system, path)["size"] == 21
    assert client.stat(system, path, dereference=True)["nlink"] == 1
    assert client.head(system, path, num_lines=1)["content"] == "line 1\n"
    assert client.head(system, path, num_bytes=14, exclude_trailing=True)["content"] == "line 1\n"
    assert client.tail(system, path, num_bytes=7)["content"] == "line 3\n"
    assert client.tail(system, path, num_lines=3, exclude_beginning=True)["content"] == "line 3\n"
    assert client.view(system, path) == "line 1\nline 2\nline 3\n"
    assert len(client.checksum(system, path)["checksum"]) == 64
    assert client.file_type(system, path) == "ASCII text"
    assert client.chmod(system, path, "600")["permissions"] == "rw-------"
    assert client.chown(system, path, api.user, api.user)["user"] == api.user
    client.symlink(system, path, f"{work}/link")
    client.mkdir(system, f"{work}/x/y", create_parents=True)
    refused(client.mkdir, system, f"{work}/x", status=400, text="File exists")
    refused(client.stat, system, f"{work}/none", status=404, text="cannot statx")
    names = [entry["name"] for entry in client.list_files(system, work, recursive=True, show_hidden=True)]
    assert names == ["a file's name", "link", "x", "x/y"]
    client.compress(system, f"{work}/x", f"{work}/x.tar.gz")
    client.mkdir(system, f"{work}/out")
    client.extract(system, f"{work}/x.tar.gz", f"{work}/out")
    assert [entry["name"] for entry in client.list_files(system, f"{work}/out", recursive=True)] == ["x", "x/y"]
    target = tmp_path / "back"
    client.download(system, path, str(target))
    assert target.read_bytes() == local.read_bytes()
    assert client.rm(system, path) is None
    refused(client.view, system, path, status=404, text="No such file or directory")


def test_empty_files(client, api, work, tmp_path):
    empty = tmp_path / "empty"
    empty.touch()
    client.upload(api.system, str(empty), work, "empty")
    assert client.stat(api.system, f"{work}/empty")["size"] == 0
    client.download(api.system, f"{work}/empty", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b""


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # what the client sends for the last part
def test_transfer_jobs(client, api, work, tmp_path):
    local = tmp_path / "local"
    local.write_bytes(os.urandom(1000))
    client.upload(api.system, str(local), work, "one")
    sum_of = client.checksum(api.system, f"{work}/one")
    client.cp(api.system, f"{work}/one", f"{work}/two words", account=api.account)
    client.mv(api.system, f"{work}/two words", f"{work}/it's three", account=api.account)
    assert client.checksum(api.system, f"{work}/it's three") == sum_of
    with pytest.raises(TransferJobFailedException):
        client.cp(api.system, f"{work}/none", f"{work}/four", account=api.account)
    names = [entry["name"] for entry in client.list_files(api.system, work)]
    assert names == ["it's three", "one"]
    if not api.live:  # the live site has tests of its own for large files
        client.upload(api.system, str(big(tmp_path)), work, "big", account=api.account)
        assert client.stat(api.system, f"{work}/big")["size"] == 2_000_000


def big(folder: Path) -> Path:
    path = folder / "big"
    path.write_bytes(bytes(2_000_000))
    return path


def test_a_job_from_submit_to_output(client, api, work):
    system = api.system
    greeting = "a,b \"c\" 'd'\n$HOME=x"
    job = client.submit(
        system,
        work,
        script_str=SCRIPT,
        env_vars={"GREETING": greeting, "EMPTY": ""},
        account=api.account,
    )["jobId"]
    assert isinstance(job, str)
    [at_once] = client.job_info(system, job)
    assert at_once["jobId"] == job
    assert at_once["name"] == "twin"
    [done] = client.wait_for_job(system, job)
    assert done["status"] | {"stateReason": None, "stateHint": None} == {
        "state": "COMPLETED",
        "stateReason": None,
        "stateHint": None,
        "exitCode": 0,
        "interruptSignal": 0,
    }
    assert client.view(system, f"{work}/slurm-{job}.out") == f"out {greeting}\nerr\n"
    [meta] = client.job_metadata(system, job)
    assert meta["script"] == SCRIPT
    assert meta["standardOutput"] == f"{work}/slurm-{job}.out"
    assert job in [one["jobId"] for one in client.job_info(system)]
    client.set_api_version("2.6.0")  # filters are covered above
    assert job in [one["jobId"] for one in client.job_info(system, name="twin", account=api.account, time_window="1h")]
    assert job not in [one["jobId"] for one in client.job_info(system, name="nosuch")]
    assert job in [one["jobId"] for one in client.job_info(system, allusers=True)]


def test_a_script_on_the_cluster(client, api, work, tmp_path):
    local = tmp_path / "job.sh"
    local.write_text(SCRIPT)
    client.upload(api.system, str(local), work, "job.sh")
    job = client.submit(api.system, work, script_remote_path=f"{work}/job.sh", account=api.account)["jobId"]
    assert client.wait_for_job(api.system, job)[0]["status"]["state"] == "COMPLETED"


def test_attach_and_cancel(client, api, work):
    job = client.submit(api.system, work, script_str=LONG, account=api.account)["jobId"]
    until(lambda: client.job_info(api.system, job)[0]["status"]["state"] == "RUNNING")
    client.attach_to_job(api.system, job, f"echo hello > '{work}/attached'")
    assert client.view(api.system, f"{work}/attached") == "hello\n"
    client.cancel_job(api.system, job)
    until(lambda: client.job_info(api.system, job)[0]["status"]["state"] == "CANCELLED")
    client.cancel_job(api.system, job)  # again: 204
    refused(client.cancel_job, api.system, "99999999", status=404, text="Job not found")
    refused(client.job_info, api.system, "99999999", status=404, text="Job not found")


@pytest.mark.parametrize("script", ["echo no interpreter\n", "", "#!/bin/bash\r\ntrue\r\n"])
def test_scripts_that_slurm_refuses(client, api, work, script):
    refused(client.submit, api.system, work, script_str=script or " ", account=api.account, status=400)
    refused(client.submit, api.system, work, script_str=SCRIPT, account="nosuch", status=400, text="nvalid account")


def until(true) -> None:
    import time

    for _ in range(300):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


@pytest.mark.live  # it starts a dozen Pythons
def test_the_command_line(api, work, tmp_path):
    local = tmp_path / "local.txt"
    local.write_text("from the command line\n")
    environ = os.environ | {
        "FIRECREST_URL": api.url,
        "FIRECREST_CLIENT_ID": api.client_id,
        "FIRECREST_CLIENT_SECRET": api.secret,
        "AUTH_TOKEN_URL": api.token_url,
        "FIRECREST_SYSTEM": api.system,
        "COLUMNS": "200",
    }

    def cli(*words: str) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).parent / "firecrest"), *words],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "2.5.7" in cli("server-version")
    assert api.system in cli("systems")
    cli("upload", str(local), work, "up.txt")
    assert "up.txt" in cli("ls", work)
    assert '"size": 22' in cli("stat", f"{work}/up.txt").replace("'", '"')
    cli("download", f"{work}/up.txt", str(tmp_path / "down.txt"))
    assert (tmp_path / "down.txt").read_text() == local.read_text()
    script = tmp_path / "job.sh"
    script.write_text(SCRIPT)
    said = cli("submit", str(script), "--working-dir", work, "--account", api.account)
    job = json.loads(said)["jobId"] if said.lstrip().startswith("{") else "".join(c for c in said if c.isdigit())
    cli("wait-for-job", job)
    assert "COMPLETED" in cli("job-info", job)
    cli("rm", f"{work}/up.txt", "--force") if "--force" in cli("rm", "--help") else cli("rm", f"{work}/up.txt")


def test_every_method_is_called_here():
    """Fails when a new pyfirecrest adds a method."""
    own = {"log", "close_session", "create_new_session", "set_api_version"}
    methods = {name for name, _ in inspect.getmembers(Firecrest, inspect.isfunction) if not name.startswith("_")}
    text = Path(__file__).read_text()
    assert [name for name in sorted(methods - own) if f"client.{name}" not in text] == []
