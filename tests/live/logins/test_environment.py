"""Variables of a user's environment don't change what the gateway answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

import httpx
import pytest

from .accounts import Logins

pytestmark = pytest.mark.anyio

KIND = "dash"
BUSY = {"state", "cpuLoad", "freeMemory", "allocMemory", "allocCpus", "idleCpus"}  # of a node: other jobs come and go
HOSTILE = {
    "Slurm": """SQUEUE_PARTITION=long SQUEUE_FORMAT=%i SQUEUE_FORMAT2=JobID SQUEUE_STATES=COMPLETED SQUEUE_USERS=root
        SQUEUE_ACCOUNT=other SQUEUE_NAMES=none SQUEUE_SORT=-i SQUEUE_ARRAY=1 SQUEUE_LICENSES=x SQUEUE_QOS=high
        SQUEUE_ARRAY_UNIQUE=1 SQUEUE_PRIORITY=1 SQUEUE_CLUSTERS=none SACCT_FORMAT=JobID SACCT_LOCAL=1 SACCT_FEDERATION=1
        SCONTROL_ALL=1 SCONTROL_FUTURE=1 SCONTROL_FEDERATION=1 SCONTROL_LOCAL=1 SINFO_FORMAT=%P SINFO_PARTITION=long
        SINFO_STATE=down SINFO_SORT=-N SINFO_ALL=1 SLURM_TIME_FORMAT=relative SLURM_CLUSTERS=none SLURM_BITSTR_LEN=8
        SCANCEL_STATE=PENDING SCANCEL_USER=root SCANCEL_NAME=none SCANCEL_PARTITION=long SCANCEL_INTERACTIVE=1
        SCANCEL_ACCOUNT=other SCANCEL_QOS=high SCANCEL_WCKEY=x SCANCEL_VERBOSE=3 SCANCEL_BATCH=1 SCANCEL_CTLD=1
        SCANCEL_HURRY=1 SCANCEL_FULL=1 SLURM_JSON=list SLURM_YAML=x SLURM_JOB_ID=1 SLURM_DEBUG=3 SLURM_DEBUG_FLAGS=all
        SBATCH_WAIT=1 SBATCH_TEST_ONLY=1 SBATCH_CLUSTERS=none SBATCH_DEBUG=3 SLURM_EXIT_ERROR=7 SPRIO_FORMAT=%i
        SLURM_UMASK=0777 SBATCH_REQUEUE=1""",
    "coreutils, tar and perl": """POSIXLY_CORRECT=1 _POSIX2_VERSION=199209 TAR_OPTIONS=--exclude=* BLOCK_SIZE=human
        BLOCKSIZE=1M DU_BLOCK_SIZE=1M DF_BLOCK_SIZE=1M LS_COLORS=di=31 QUOTING_STYLE=shell-escape TIME_STYLE=+%s
        GREP_OPTIONS=-v GREP_COLORS=mt=31 GREP_COLOR=always VERSION_CONTROL=numbered SIMPLE_BACKUP_SUFFIX=.old
        GZIP=-t XZ_OPT=-t XZ_DEFAULTS=-t BZIP2=-t ZSTD_CLEVEL=1 PERL5OPT=-MGone PERL5LIB=/nonexistent PERL_UNICODE=SDA
        PERLIO=:crlf PERL5DB=x CP_PRESERVE=1 LC_ALL=tr_TR.UTF-8 LANG=de_DE.UTF-8 LANGUAGE=de TZ=Asia/Kathmandu
        MAGIC=/dev/null BASH_ENV=/nonexistent/env ENV=/nonexistent/env SHELLOPTS=xtrace:verbose:noglob BASHOPTS=failglob
        CDPATH=/ GLOBIGNORE=* IFS=e COLUMNS=10 TMPDIR=/nonexistent TMOUT=1 PS4=$(touch~RAN) FIGNORE=x
        LD_DEBUG=none NO_COLOR=1 CLICOLOR_FORCE=1 A%%=()~{~touch~RAN;} BASH_FUNC_tar%%=()~{~touch~RAN;}
        BASH_FUNC_exec%%=()~{~touch~RAN;} BASH_FUNC_read%%=()~{~touch~RAN;} BASH_FUNC_stat%%=()~{~touch~RAN;}
        BASH_FUNC_echo%%=()~{~touch~RAN;} BASH_FUNC_printf%%=()~{~touch~RAN;} BASH_FUNC_set%%=()~{~touch~RAN;}
        BASH_FUNC_find%%=()~{~touch~RAN;} BASH_FUNC_mktemp%%=()~{~touch~RAN;} BASH_FUNC_type%%=()~{~touch~RAN;}
        BASH_FUNC_trap%%=()~{~touch~RAN;} BASH_FUNC_unset%%=()~{~touch~RAN;} BASH_FUNC_export%%=()~{~touch~RAN;}
        BASH_FUNC_mv%%=()~{~touch~RAN;} BASH_FUNC_local%%=()~{~touch~RAN;}""",
}


async def answers(client: httpx.AsyncClient, logins: Logins, job: str, name: str) -> dict[str, Any]:
    """The answers to many requests, without what is different each time."""
    home, system = str(logins.home(KIND)), logins.site.system
    work, ops = f"{home}/{name}", f"/filesystem/{system}/ops"
    found: dict[str, Any] = {}

    async def ask(what: str, method: str, url: str, **more: Any) -> Any:
        answer = await client.request(method, url, **more)
        text = re.sub(r'"(lastModified|[acm]time|ino|free|available|filesFree|time)":[^,}]*', "", answer.text)
        found[what] = (answer.status_code, text.replace(work, "WORK"))
        return answer

    listed = await ask("jobs", "GET", f"/compute/{system}/jobs")
    mine = [one for one in listed.json()["jobs"] if one["jobId"].startswith(job)]
    found["jobs"] = (listed.status_code, json.dumps(mine))
    await ask("job", "GET", f"/compute/{system}/jobs/{job}")
    await ask("metadata", "GET", f"/compute/{system}/jobs/{job}/metadata")
    for what in ("nodes", "partitions", "reservations", "userinfo"):
        await ask(what, "GET", f"/status/{system}/{what}")
    nodes = [{key: node[key] for key in node.keys() - BUSY} for node in json.loads(found["nodes"][1])["nodes"]]
    found["nodes"] = (found["nodes"][0], nodes)
    for what in ("ls", "stat", "checksum", "file", "head", "tail", "du", "df"):
        await ask(what, "GET", f"{ops}/{what}", params={"path": f"{work}/d/f"})
    await ask("list", "GET", f"{ops}/ls", params={"path": f"{work}/d"})
    made: list[tuple[str, dict[str, str]]] = [
        ("compress", {"path": f"{work}/d", "targetPath": f"{work}/a.tgz"}),
        ("compress", {"path": f"{work}/d", "targetPath": f"{work}/m.tgz", "matchPattern": ".*f"}),
        ("extract", {"path": f"{work}/a.tgz", "targetPath": f"{work}/x"}),
        ("cp", {"path": f"{work}/x/d", "targetPath": f"{work}/y"}),
    ]
    for number, (what, body) in enumerate(made):
        await ask(f"{what} {number}", "POST", f"{ops}/{what}", json=body)
    await ask("copied", "GET", f"{ops}/download", params={"path": f"{work}/y/f"})
    await ask("remove", "DELETE", f"{ops}/rm", params={"path": f"{work}/x"})
    await ask("chmod", "PUT", f"{ops}/chmod", json={"path": f"{work}/d/f", "mode": "u+x"})
    submitted = await ask(
        "submit",
        "POST",
        f"/compute/{system}/jobs",
        json={"job": {"script": "#!/bin/sh\nsleep 100\n", "workingDirectory": home, "account": "test", "name": "one"}},
    )
    one = str(submitted.json().get("jobId", ""))
    assert one, submitted.text
    found["submit"] = (found["submit"][0], "")
    await ask("cancel", "DELETE", f"/compute/{system}/jobs/{one}")
    state = subprocess.run(["squeue", "-h", "-j", one, "-o", "%T"], check=False, capture_output=True, text=True)
    found["cancelled"] = (0, "no" if state.stdout in ("RUNNING\n", "PENDING\n") else "yes")
    return found


@pytest.mark.parametrize("what", HOSTILE)
async def test_variables_change_no_answer(logins: Logins, what: str) -> None:
    user, home = logins.user(KIND), logins.home(KIND)
    submit: list[str] = [
        "sbatch",
        "--parsable",
        f"--uid={user}",
        "--chdir",
        str(home),
        "-o",
        "/dev/null",
        "-p",
        "debug",
        "--hold",
    ]
    done = subprocess.run([*submit, "--array=1-30", "--wrap=true"], check=True, capture_output=True, text=True)
    job = done.stdout.strip()
    try:
        usual, hostile = [
            await _answers_with(logins, job, f"{name}-{sorted(HOSTILE).index(what)}", text)
            for name, text in (("usual", ""), ("hostile", "\n".join(HOSTILE[what].split()).replace("~", " ")))
        ]
    finally:
        subprocess.run(["scancel", "-u", user], check=True)
    assert {one: (answer, usual[one]) for one, answer in hostile.items() if answer != usual[one]} == {}
    assert all(status in {0, 200, 201, 204} for status, _ in usual.values())
    assert job in usual["jobs"][1]
    assert not [name for _, _, names in os.walk(home) for name in names if name == "RAN"]


async def _answers_with(logins: Logins, job: str, name: str, variables: str) -> dict[str, Any]:
    logins.put(KIND, ".ssh/environment", variables + "\n")
    file = logins.put(KIND, f"{name}/d/f", "content\n")
    os.utime(file, (1_700_000_000, 1_700_000_000))
    async with logins.client(KIND) as client:
        return await answers(client, logins, job, name)
