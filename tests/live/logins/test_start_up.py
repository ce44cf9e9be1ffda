"""Logins that end, are replaced, hang, print or offer SFTP only: what SFTP can do is done, the rest is an error."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .accounts import SHELLS, Logins

pytestmark = pytest.mark.anyio

FILES = {"bash": ".bashrc", "zsh": ".zshenv", "tcsh": ".tcshrc", "fish": ".config/fish/config.fish"}
SHORT = {"connection": 3, "login": 1, "command_execution": 20, "idle_timeout": 60}
SAID = "Account locked until Monday"
BROKEN = {
    "ends": (f"echo '{SAID}'\nexit\n", SAID),
    "fails": ("exit 3\n", "ended before"),
    "another shell": ("exec bash\n", "did not start"),
    "a program that reads": ("exec cat\n", "did not start"),
    "hangs": ("sleep 1000\n", "did not start"),
    "menu": (f"echo '{SAID}' >&2\nselect what in queue files quit; do [ \"$what\" = quit ] && exit; done\n", SAID),
    "floods": (f"yes '{SAID}'\n", SAID),
}
NOISY = {
    "prints": "echo hello\necho errors >/dev/stderr\n",
    "prints much": "head -c 900000 /dev/zero | tr '\\0' x\n",
    "umask and limits": "umask 077\nulimit -c 0\n",
    "leaves something running": "sleep 300 &\n",
    "functions and aliases": "alias ls='touch RAN'\nalias printf='touch RAN'\n",
}


@pytest.fixture
def work(logins: Logins, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder with the file f, for the kind of login of the test; jobs of the user are cancelled afterwards."""
    kind = request.getfixturevalue("kind")
    folder = logins.put(kind, "w/f", "one\n").parent
    yield folder
    subprocess.run(["scancel", "-u", logins.user(kind)], check=False)
    shutil.rmtree(folder)
    if kind in FILES:
        (logins.home(kind) / FILES[kind]).unlink(missing_ok=True)


def running_job(logins: Logins, kind: str) -> str:
    argv = ["sbatch", "--parsable", f"--uid={logins.user(kind)}", "-p", "debug", "-o", "/dev/null", "-D", "/tmp"]
    return subprocess.run([*argv, "--wrap=sleep 300"], check=True, capture_output=True, text=True).stdout.strip()


class Asked:
    """Requests of one user, and their answers."""

    def __init__(self, client: httpx.AsyncClient, logins: Logins, work: Path) -> None:
        self.client = client
        self.system = logins.site.system
        self.home = logins.home("bash").parent
        self.work = work

    async def __call__(self, method: str, what: str, **more: Any) -> httpx.Response:
        return await self.client.request(method, what.replace("SYSTEM", self.system), **more)

    async def commands(self, job: str) -> dict[str, httpx.Response]:
        """What needs a command."""
        ops, work = "/filesystem/SYSTEM/ops", str(self.work)
        job_spec = {"script": "#!/bin/sh\ntouch RAN\n", "workingDirectory": str(self.work), "account": "test"}
        asked: list[tuple[str, str, dict[str, Any]]] = [
            ("GET", "/compute/SYSTEM/jobs", {}),
            ("GET", f"/compute/SYSTEM/jobs/{job}", {}),
            ("GET", f"/compute/SYSTEM/jobs/{job}/metadata", {}),
            ("DELETE", f"/compute/SYSTEM/jobs/{job}", {}),
            ("POST", "/compute/SYSTEM/jobs", {"json": {"job": job_spec}}),
            *(("GET", f"/status/SYSTEM/{what}", {}) for what in ("nodes", "partitions", "reservations", "userinfo")),
            *(("GET", f"{ops}/{what}", {"params": {"path": f"{work}/f"}}) for what in ("checksum", "file", "du")),
            ("POST", f"{ops}/compress", {"json": {"path": f"{work}/f", "targetPath": f"{work}/a"}}),
            ("POST", f"{ops}/cp", {"json": {"path": f"{work}/f", "targetPath": f"{work}/g"}}),
            ("POST", "/filesystem/SYSTEM/bulk/download", {"json": {"paths": [work]}}),
        ]
        return {f"{method} {what}": await self(method, what, **more) for method, what, more in asked}

    async def by_sftp(self) -> None:
        """What SFTP can do: its effects are seen on the disk."""
        ops, work = "/filesystem/SYSTEM/ops", self.work
        text = b"touch RAN\n"
        for name, size in (("small", 1), ("large", 20_000)):
            for status in (201, 204):
                url = f"{ops}/upload"
                answer = await self("PUT", url, params={"path": str(work / name)}, content=text * size)
                assert (answer.status_code, (work / name).read_bytes()) == (status, text * size)
        answers = {
            what: await self("GET", f"{ops}/{what}", params={"path": str(work / "f")})
            for what in ("stat", "ls", "head", "tail", "view", "download", "df")
        }
        assert {what: answer.status_code for what, answer in answers.items()} == dict.fromkeys(answers, 200)
        assert (answers["download"].text, answers["view"].json()["output"]) == ("one\n", "one\n")
        assert answers["ls"].json()["output"][0]["user"] == work.owner()
        listed = (await self("GET", f"{ops}/ls", params={"path": str(work)})).json()["output"]
        assert {(one["name"], one["user"]) for one in listed} == {(n, work.owner()) for n in ("f", "large", "small")}
        for method, what, body in (
            ("POST", "mkdir", {"path": f"{work}/d/e", "parent": True}),
            ("POST", "mv", {"path": f"{work}/small", "targetPath": f"{work}/d/moved"}),
            ("POST", "touch", {"path": f"{work}/touched"}),
            ("POST", "touch", {"path": f"{work}/touched"}),
            ("PUT", "chmod", {"path": f"{work}/touched", "mode": "640"}),
            ("PUT", "chmod", {"path": f"{work}/touched", "mode": "u+x,o=r"}),
            ("POST", "symlink", {"path": f"{work}/f", "linkPath": f"{work}/l"}),
            ("POST", "truncate", {"path": f"{work}/large", "size": 3}),
        ):
            answer = await self(method, f"{ops}/{what}", json=body)
            assert answer.is_success, (what, answer.text)
        assert (work / "touched").stat().st_mode & 0o777 == 0o744
        assert (work / "large").stat().st_size == 3
        for name, status in (("d", 204), ("l", 204)):
            answer = await self("DELETE", f"{ops}/rm", params={"path": str(work / name)})
            assert answer.status_code == status, answer.text
        assert sorted(path.name for path in work.iterdir()) == ["f", "large", "touched"]


def still_there(logins: Logins, kind: str, job: str) -> None:
    state = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], check=True, capture_output=True, text=True).stdout
    assert state in ("RUNNING\n", "PENDING\n")
    user = subprocess.run(
        ["squeue", "-h", "-u", logins.user(kind), "-o", "%i"], check=True, capture_output=True, text=True
    ).stdout
    assert user.split() == [job], "nothing was submitted"
    assert not [name for _, _, names in os.walk(logins.home(kind)) for name in names if name == "RAN"]


def all_refused(answers: dict[str, httpx.Response], said: str) -> None:
    statuses = {what: answer.status_code for what, answer in answers.items()}
    assert set(statuses.values()) <= {424, 501}, statuses
    for what, answer in answers.items():
        assert said in answer.json()["message"], what
        assert "may have been submitted" not in answer.text


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("kind", ["bash", "zsh"])
async def test_broken_logins(logins: Logins, kind: str, how: str, work: Path) -> None:
    job = running_job(logins, kind)
    text, said = BROKEN[how]
    logins.put(kind, FILES[kind], text)
    async with logins.client(kind, timeout=SHORT) as client:
        asked = Asked(client, logins, work)
        all_refused(await asked.commands(job), said)
        await asked.by_sftp()
    still_there(logins, kind, job)


@pytest.mark.parametrize("kind", ["sftponly", "nologin", "rbash"])
async def test_logins_without_commands(logins: Logins, kind: str, work: Path) -> None:
    job = running_job(logins, kind)
    async with logins.client(kind, timeout=SHORT) as client:
        asked = Asked(client, logins, work)
        all_refused(await asked.commands(job), "offers SFTP only" if kind == "sftponly" else "The login on the cluster")
        await asked.by_sftp()
    still_there(logins, kind, job)


@pytest.mark.parametrize("how", BROKEN)
async def test_broken_logins_whose_sftp_needs_the_shell(logins: Logins, how: str, work: Path, kind: str) -> None:
    job = running_job(logins, kind)
    text, said = BROKEN[how]
    logins.put(kind, FILES[kind], text)
    async with logins.client(kind, by_program=True, timeout=SHORT) as client:
        asked = Asked(client, logins, work)
        all_refused(await asked.commands(job), said)
        for what in ("stat", "ls", "head", "download"):
            answer = await asked("GET", f"/filesystem/SYSTEM/ops/{what}", params={"path": f"{work}/f"})
            assert (answer.status_code, said in answer.json()["message"]) == (424, True), answer.text
        for size in (1, 20_000):
            url = "/filesystem/SYSTEM/ops/upload"
            answer = await asked("PUT", url, params={"path": f"{work}/u"}, content=b"touch RAN\n" * size)
            assert (answer.status_code, said in answer.json()["message"]) == (424, True), answer.text
        answer = await asked("DELETE", "/filesystem/SYSTEM/ops/rm", params={"path": f"{work}/f"})
        assert answer.status_code == 424
    assert [path.name for path in work.iterdir()] == ["f"]
    still_there(logins, kind, job)


@pytest.fixture
def kind() -> str:
    return "bash"


@pytest.mark.parametrize("how", NOISY)
@pytest.mark.parametrize("kind", FILES)
async def test_noisy_logins(logins: Logins, kind: str, how: str, work: Path) -> None:
    job = running_job(logins, kind)
    text = NOISY[how]
    if kind == "tcsh":
        text = text.replace("=", " ").replace("ulimit -c", "limit coredumpsize").replace(" >/dev/stderr", "")
    logins.put(kind, FILES[kind], text)
    async with logins.client(kind, by_program=True) as client:
        answers = await Asked(client, logins, work).commands(job)
    bad = {what: answer.text for what, answer in answers.items() if not answer.is_success}
    assert not bad
    assert job in answers["GET /compute/SYSTEM/jobs"].text
    assert (work / "a").stat().st_size > 0


async def test_logins_without_standard_error(logins: Logins, kind: str, work: Path) -> None:
    job = running_job(logins, kind)
    logins.put(kind, FILES[kind], "exec 2>&-\n")
    async with logins.client(kind) as client:
        asked = Asked(client, logins, work)
        answers = await asked.commands(job)
        gone = await asked("DELETE", "/compute/SYSTEM/jobs/99999999")
    assert not {what: answer.text for what, answer in answers.items() if not answer.is_success}
    assert gone.status_code == 404, gone.text


@pytest.mark.parametrize("text", ["exit\n", "exec cat\n", "echo noise\n", "exec bash\n"])
@pytest.mark.parametrize("kind", ["dash", "zsh"])
async def test_start_up_files_of_bash_are_not_run_for_scripts(logins: Logins, kind: str, text: str, work: Path) -> None:
    """bash runs .bashrc for a script if it takes itself for the login shell of SSH, and $BASH_ENV always."""
    assert kind in SHELLS
    job = running_job(logins, kind)
    file = logins.put(kind, ".bashrc", text)
    environment = logins.put(kind, ".ssh/environment", f"BASH_ENV={file}\n")
    try:
        async with logins.client(kind) as client:
            answers = await Asked(client, logins, work).commands(job)
    finally:
        file.unlink()
        environment.unlink()
    assert not {what: answer.text for what, answer in answers.items() if not answer.is_success}
    assert (work / "a").stat().st_size > 0
    number = answers["POST /compute/SYSTEM/jobs"].json()["jobId"]
    shown = subprocess.run(["scontrol", "write", "batch_script", str(number), "-"], check=True, capture_output=True)
    assert shown.stdout.startswith(b"#!/bin/sh\ntouch RAN\n")
