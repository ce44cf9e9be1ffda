"""Jobs of the streamer: bash runs the script that the gateway makes."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flamecrest.server.transfer.jobs.script import TransferJob, job_script
from flamecrest.server.transfer.programs.script import program_environment, python_script
from flamecrest.server.transfer.streamer.certificate import new_certificate
from flamecrest.server.transfer.streamer.coordinates import Coordinates
from flamecrest.server.transfer.streamer.methods import RECEIVE, SEND

SECRET = "the-secret"
PORTS = (20000, 32000)  # the first free one is taken


@dataclass
class Job:
    """A job that listens."""

    process: subprocess.Popen[bytes]
    folder: Path
    certificate: str
    log: Path
    output: Path
    seen: list[str] = field(default_factory=list)

    def wait_for(self, text: str) -> re.Match[str]:
        """The first place in the error log that matches."""
        until = time.monotonic() + 30
        while True:
            logged = self.log.read_text()
            found = re.search(text, logged)
            if found is not None:
                return found
            assert time.monotonic() < until, f"{text!r} is not in {logged!r}"
            assert self.process.poll() is None or re.search(text, self.log.read_text()), logged
            time.sleep(0.02)

    @property
    def port(self) -> int:
        return int(self.wait_for(r"Listening on port (\d+)")[1])

    def coordinates(self, secret: str = SECRET, *, tls: bool = True) -> Coordinates:
        return Coordinates(("127.0.0.1",), (self.port, self.port), secret, self.certificate if tls else None)

    def ended(self) -> int:
        """The exit status."""
        return self.process.wait(30)

    def worked(self) -> None:
        assert self.ended() == 0, self.log.read_text()
        assert "File was successfully" in self.output.read_text()

    def failed(self, reason: str, status: int = 1) -> None:
        assert self.ended() == status, self.log.read_text()
        assert reason in self.log.read_text()
        assert "successfully" not in self.output.read_text()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Start a job: `run("upload", path)`."""
    jobs: list[Job] = []

    def start(verb: str, path: Path | bytes, *, file_size: str = "unlimited", **options: Any) -> Job:
        """`file_size` is what the system limits files to, in KiB."""
        folder = tmp_path / f"job-{len(jobs)}"
        folder.mkdir()
        certificate, digest = new_certificate()
        given = {
            "secret": SECRET, "certificate": certificate, "host": "127.0.0.1", "ports": PORTS, "wait_timeout": 60,
            "retry_timeout": 60, "limit": None, "require_tls": False, **options,
        }  # fmt: skip
        modules = RECEIVE if verb == "upload" else SEND
        script = python_script(sys.executable, *modules)
        job = TransferJob("x", script, "Started", f"File was successfully {verb}ed.", "Unable to do it")
        (folder / "script").write_text(job_script("", str(folder), job))
        with (folder / "out").open("wb") as output, (folder / "err").open("wb") as errors:
            process = subprocess.Popen(
                ["bash", "-c", f'ulimit -f {file_size}; exec bash "$0"', folder / "script"],
                cwd=folder,
                stdout=output,
                stderr=errors,
                env={"PATH": os.environ["PATH"], **program_environment(os.fsdecode(path), given)},
                start_new_session=True,
            )
        made = Job(process, folder, digest, folder / "err", folder / "out")
        jobs.append(made)
        return made

    yield start
    for job in jobs:
        if job.process.poll() is None:
            os.killpg(job.process.pid, signal.SIGKILL)
            job.process.wait()


def content(size: int) -> bytes:
    """Bytes that repeat nowhere near."""
    block = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(min(size, 200_000) // 32 + 1))
    return (block * (size // len(block) + 1))[:size]


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())
