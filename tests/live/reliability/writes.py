"""Uploads and submissions, and what was acknowledged of them: nothing may be lost, doubled or half done."""

from __future__ import annotations

import secrets
import shutil
from itertools import count
from pathlib import Path

import httpx

from tests.live import faults
from tests.live.fault_world import World

NAMES = 4
LINES = 8000  # of an uploaded file


class Uploads:
    """Uploads over the same few files again and again: each version of a file is a line, many times."""

    def __init__(self, world: World, client: httpx.Client, user: str, folder: Path | None = None) -> None:
        self.folder = folder or Path(world.site.home(user)) / f"faults-{secrets.token_hex(4)}"
        self.folder.mkdir(exist_ok=True)
        faults.give(self.folder, user)
        world.stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._url = f"{world.ops}/upload"
        self._client = client
        self._versions = count(1)
        self._sent: dict[str, int] = {}  # the last version that was sent
        self._kept: dict[str, int] = {}  # the last version that was acknowledged
        self.acknowledged = 0

    def __call__(self) -> httpx.Response:
        version = next(self._versions)
        name = f"file-{version % NAMES}"
        self._sent[name] = version
        answer = self._client.put(self._url, params={"path": str(self.folder / name)}, content=_text(version))
        if answer.is_success:
            self._kept[name] = version
            self.acknowledged += 1
        return answer

    def check(self) -> str:
        """Each file is whole, and of the last acknowledged version or of a later one; no temporary file is left."""
        faults.until(
            lambda: {one.name for one in self.folder.iterdir()} <= set(self._sent), "no temporary file is left"
        )
        for name, version in self._kept.items():
            text = (self.folder / name).read_bytes()
            found = int(text.split(b"\n", 1)[0])
            assert version <= found <= self._sent[name], f"{name} is version {found}; {version} was acknowledged"
            assert text == _text(found), f"{name} is not whole"
        return f"{self.acknowledged} uploads acknowledged, the files whole and of the last version"


def _text(version: int) -> bytes:
    return b"%d\n" % version * LINES


class Submissions:
    """Jobs of one name each."""

    def __init__(self, world: World, client: httpx.Client) -> None:
        self._url = world.jobs
        self._account = world.site.account
        self._client = client
        self._prefix = f"faults-{secrets.token_hex(4)}"
        self._ids: dict[str, str | None] = {}

    def __call__(self) -> httpx.Response:
        name = f"{self._prefix}-{len(self._ids)}"
        self._ids[name] = None
        job = {"name": name, "workingDirectory": "/tmp", "standardOutput": "/dev/null", "standardError": "/dev/null"}
        body = {"job": job | {"script": "#!/bin/sh\n:\n", "account": self._account}}
        answer = self._client.post(self._url, json=body)
        if answer.is_success:
            self._ids[name] = answer.json()["jobId"]
        return answer

    def check(self) -> str:
        """What was acknowledged is one job of that id; what was not is at most one."""
        asked = self._client.get(self._url, params={"time_window": "1h"})
        assert asked.is_success, asked.text
        found: dict[str, list[str]] = {}
        for job in asked.json()["jobs"]:
            found.setdefault(job["name"], []).append(job["jobId"])
        for name, job_id in self._ids.items():
            mine = found.get(name, [])
            assert mine == [job_id] if job_id else len(mine) <= 1, f"{name}: {job_id} acknowledged, found {mine}"
        submitted = sum(one is not None for one in self._ids.values())
        return f"{submitted} of {len(self._ids)} submissions acknowledged, each one job; no other was doubled"
