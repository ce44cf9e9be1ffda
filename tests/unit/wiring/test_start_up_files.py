"""Start-up files of a login as clients see them over HTTP: a whole gateway, the sandbox's SSH server and toy Slurm.

A login that starts no program is an error in every operation: never an empty list, "not found" or "done".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flamecrest.sandbox.centre import Centre
from flamecrest.server.app import create_app
from flamecrest.server.settings import load

# user, start-up file, and the words of the login that the answer has
BROKEN = {
    "ends": ("echo 'Down for maintenance'; exit 0", ": Down for maintenance"),
    "fails": ("echo 'No quota left' >&2; exit 1", ": No quota left"),
    "hangs": ("echo 'Loading modules'; sleep 300", ": Loading modules"),
    "bash": ("exec bash", "did not start a shell"),
    "cat": ("exec cat", "did not start a shell"),
    "floods": ("yes", "prints without end"),
}
SCRIPT = "#!/bin/bash\ntouch '{0}/RAN'\n" + "touch '{0}/RAN'\n" * 3
SLEEP = "#!/bin/bash\nsleep 300\n"


@asynccontextmanager
async def reached(centre: Centre, path: Path, *, login: int = 60) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a new gateway."""
    config = centre.config()
    config["clusters"][0]["ssh"]["timeout"]["login"] = login
    path.write_text(yaml.safe_dump(config))
    app = create_app(await asyncio.to_thread(load, path, {}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client,
    ):
        yield client


def caller(centre: Centre, user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {centre.token(user)}"}


def start_up(centre: Centre, user: str, text: str) -> None:
    centre.ssh.faults.rc_files = True
    (centre.home(user) / ".bashrc").write_text(f"{text}\n")


async def submit(client: httpx.AsyncClient, centre: Centre, user: str, script: str, **fields: Any) -> httpx.Response:
    job = {"workingDirectory": str(centre.home(user)), "script": script, "account": "test", **fields}
    return await client.post(f"/compute/{centre.system}/jobs", json={"job": job}, headers=caller(centre, user))


def operations(centre: Centre, user: str, job: str) -> list[tuple[str, str, dict[str, Any] | None]]:
    """All that asks the scheduler or runs a program: method, URL and body."""
    home, jobs = centre.home(user), f"/compute/{centre.system}/jobs"
    status, moves = f"/status/{centre.system}", f"/filesystem/{centre.system}/transfer"
    two = {"path": f"{home}/data", "targetPath": f"{home}/new", "account": "test"}
    new = {"workingDirectory": str(home), "script": SCRIPT.format(home), "account": "test", "env": {"A": "b\nc"}}
    return [
        ("GET", jobs, None),
        ("GET", f"{jobs}?allusers=true", None),
        ("GET", f"{jobs}/{job}", None),
        ("GET", f"{jobs}/{job}/metadata", None),
        ("DELETE", f"{jobs}/{job}", None),
        ("PUT", f"{jobs}/{job}/attach", {"command": f"touch '{home}/RAN'"}),
        ("POST", jobs, {"job": new}),
        *(("GET", f"{status}/{what}", None) for what in ("nodes", "partitions", "reservations", "userinfo")),
        *(("POST", f"{moves}/{verb}", two) for verb in ("mv", "cp", "compress", "extract")),
        ("DELETE", f"{moves}/rm?path={home}/data", None),
    ]


Answers = dict[str, list[tuple[str, httpx.Response]]]


@pytest.fixture(scope="module")
async def broken(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Centre, Answers]]:
    """The centre, and all answers of each user while a job of theirs runs."""
    folder = tmp_path_factory.mktemp("broken")
    async with Centre(folder / "centre", users=("firesrv", *BROKEN)) as centre:
        async with reached(centre, folder / "before.yaml") as client:
            submitted = await asyncio.gather(*(submit(client, centre, user, SLEEP) for user in BROKEN))
            running = {user: one.json()["jobId"] for user, one in zip(BROKEN, submitted, strict=True)}
        for user, (text, _) in BROKEN.items():
            (centre.home(user) / "data").write_text("data\n")
            start_up(centre, user, text)
        async with reached(centre, folder / "after.yaml", login=4) as client:

            async def ask(user: str) -> list[tuple[str, httpx.Response]]:
                found = []
                for method, url, body in operations(centre, user, running[user]):
                    answer = await client.request(method, url, json=body, headers=caller(centre, user))
                    found.append((f"{method} {url}", answer))
                return found

            yield centre, dict(zip(BROKEN, await asyncio.gather(*map(ask, BROKEN)), strict=True))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.parametrize("user", BROKEN)
async def test_a_login_that_starts_nothing_is_an_error_everywhere(broken: tuple[Centre, Answers], user: str) -> None:
    centre, answers = broken
    for what, answer in answers[user]:
        assert answer.status_code == 424, (what, answer.status_code, answer.text)
        assert BROKEN[user][1] in answer.json()["message"], what
    assert not (centre.home(user) / "RAN").exists()
    assert (centre.home(user) / "data").read_text() == "data\n"
    jobs = [job for job in centre.slurm.jobs() if job.user == user]
    assert [job.state for job in jobs] == ["RUNNING"], "neither cancelled nor joined by another one"


@pytest.mark.anyio
async def test_defaults_of_start_up_files_do_not_change_what_an_answer_means(tmp_path: Path) -> None:
    """Those that say how jobs run count; those that hide jobs, or send a job elsewhere, do not."""
    async with Centre(tmp_path / "centre", users=("firesrv", "fireuser"), clusters=("west",)) as centre:
        hiding = "SQUEUE_PARTITION=long SQUEUE_STATES=F SQUEUE_FORMAT=%i SACCT_FORMAT=JobID SLURM_TIME_FORMAT=relative"
        choosing = "SBATCH_CLUSTERS=west SLURM_CLUSTERS=west SBATCH_ARRAY_INX=1-3 SBATCH_WAIT=1 SBATCH_PARTITION=long"
        start_up(centre, "fireuser", f"export {hiding} {choosing} LC_ALL=C.UTF-8")
        async with reached(centre, tmp_path / "flamecrest.yaml") as client:
            script = '#!/bin/bash\necho "$LC_ALL $SQUEUE_FORMAT" > out; sleep 300\n'
            answer = await submit(client, centre, "fireuser", script)
            assert answer.status_code == 201, answer.text
            (job,) = centre.slurm.jobs()
            assert answer.json()["jobId"] == str(job.id)
            assert job.partition == "long"
            listed = await client.get(f"/compute/{centre.system}/jobs", headers=caller(centre, "fireuser"))
            assert [one["jobId"] for one in listed.json()["jobs"]] == [str(job.id)]
            out = centre.home("fireuser") / "out"
            async with asyncio.timeout(40):
                while not (out.exists() and out.read_text()):
                    await asyncio.sleep(0.02)
            assert out.read_text() == "C.UTF-8 %i\n"
