"""The operations of the baselines, as FirecREST implements them: one program per operation, file content as base64."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

STAT = "stat --format '%f %i %d %h %u %g %s %X %Z %Y' -- "
STAT_FIELDS = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "atime", "ctime", "mtime")
# FirecREST lists jobs by sacct, reads one job by sacct, and nodes by sinfo
JOB_FIELDS = "JobID,JobName,State,ExitCode,User,Account,Partition,NNodes,NodeList,Priority,Submit,Start,End,Elapsed"
SACCT = f"sacct --noheader --parsable2 --format={JOB_FIELDS}"
NODES = "sinfo --noheader --Node --format='%N|%T|%c|%m|%O|%f|%R'"
LS = "ls -l --time-style=+%Y-%m-%dT%H:%M:%S -- "


class Shell(Protocol):
    """Runs shell commands as a user on the cluster."""

    async def run(self, user: str, command: str, stdin: bytes = b"") -> bytes:
        """Run a command and return its standard output. Raises HTTPException if the exit status is not 0."""
        ...


class Operations(Protocol):
    """The operations that are compared."""

    async def download(self, user: str, path: str) -> bytes: ...
    async def stat(self, user: str, path: str) -> bytes: ...
    async def ls(self, user: str, path: str) -> bytes: ...
    async def upload(self, user: str, path: str, content: bytes) -> None: ...
    async def jobs(self, user: str, job_id: str | None) -> bytes: ...
    async def nodes(self, user: str) -> bytes: ...
    async def partitions(self, user: str) -> bytes: ...
    async def submit(self, user: str, job: Mapping[str, str]) -> bytes: ...
    async def mkdir(self, user: str, path: str) -> None: ...
    async def rm(self, user: str, path: str) -> None: ...


class Commands:
    """File operations as FirecREST implements them: one program per operation, file content as base64."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def download(self, user: str, path: str) -> bytes:
        return base64.b64decode(await self._shell.run(user, f"base64 -- {shlex.quote(path)}"))

    async def stat(self, user: str, path: str) -> bytes:
        fields = (await self._shell.run(user, STAT + shlex.quote(path))).split()
        numbers = [int(fields[0], 16), *map(int, fields[1:])]
        return orjson.dumps({"output": dict(zip(STAT_FIELDS, numbers, strict=True))})

    async def ls(self, user: str, path: str) -> bytes:
        lines = (await self._shell.run(user, LS + shlex.quote(path))).decode().splitlines()
        return orjson.dumps({"output": [_entry(line) for line in lines if not line.startswith("total ")]})

    async def upload(self, user: str, path: str, content: bytes) -> None:
        await self._shell.run(user, f"base64 -d > {shlex.quote(path)}", base64.b64encode(content))

    async def jobs(self, user: str, job_id: str | None) -> bytes:
        chosen = f"--user={user} --starttime=now-1days" if job_id is None else f"--jobs={shlex.quote(job_id)}"
        return _rows("jobs", JOB_FIELDS.split(","), await self._shell.run(user, f"{SACCT} {chosen}"))

    async def nodes(self, user: str) -> bytes:
        fields = ["name", "state", "cpus", "memory", "load", "features", "partition"]
        return _rows("nodes", fields, await self._shell.run(user, NODES))

    async def partitions(self, user: str) -> bytes:
        printed = await self._shell.run(user, "scontrol --oneliner show partitions")
        rows = (dict(pair.partition("=")[::2] for pair in line.split()) for line in printed.decode().splitlines())
        return orjson.dumps({"partitions": list(rows)})

    async def submit(self, user: str, job: Mapping[str, str]) -> bytes:
        options = {"chdir": job["workingDirectory"], "job-name": job["name"], "output": job["standardOutput"]}
        sbatch = "sbatch --parsable " + " ".join(f"--{name}={shlex.quote(value)}" for name, value in options.items())
        printed = await self._shell.run(user, sbatch, job["script"].encode())
        return orjson.dumps({"jobId": printed.decode().strip().partition(";")[0]})

    async def mkdir(self, user: str, path: str) -> None:
        await self._shell.run(user, f"mkdir -p -- {shlex.quote(path)}")

    async def rm(self, user: str, path: str) -> None:
        await self._shell.run(user, f"rm -r -- {shlex.quote(path)}")


class Constants:
    """Constant responses of the right size."""

    def __init__(self) -> None:
        line = "-rw-r--r-- 1 fireuser fireuser 1024 2026-01-01T00:00:00 "
        self._stat = orjson.dumps({"output": dict.fromkeys(STAT_FIELDS, 1_700_000_000)})
        self._ls = orjson.dumps({"output": [_entry(f"{line}{number:04}") for number in range(1000)]})

    async def download(self, *_: object) -> bytes:
        return b"x" * 1024

    async def stat(self, *_: object) -> bytes:
        return self._stat

    async def ls(self, *_: object) -> bytes:
        return self._ls

    async def upload(self, *_: object) -> None:
        return None

    async def jobs(self, *_: object) -> bytes:
        return b'{"jobs": []}'

    async def nodes(self, *_: object) -> bytes:
        return b'{"nodes": []}'

    async def partitions(self, *_: object) -> bytes:
        return b'{"partitions": []}'

    async def submit(self, *_: object) -> bytes:
        return b'{"jobId": "1"}'

    async def mkdir(self, *_: object) -> None:
        return None

    async def rm(self, *_: object) -> None:
        return None


def _rows(name: str, fields: list[str], output: bytes) -> bytes:
    rows = (line.split("|") for line in output.decode().splitlines())
    return orjson.dumps({name: [dict(zip(fields, row, strict=False)) for row in rows]})


def _entry(line: str) -> dict[str, Any]:
    mode, _links, user, group, size, modified, name = line.split(None, 6)
    return {
        "name": name,
        "type": mode[0],
        "linkTarget": None,
        "user": user,
        "group": group,
        "permissions": mode[1:10],
        "lastModified": modified,
        "size": size,
    }
