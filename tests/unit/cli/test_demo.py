"""`flamecrest demo` in a process of its own: its output and its exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flamecrest.sandbox import processes

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(300)]

COMMAND = [sys.executable, "-c", "from flamecrest.cli.main import main; main()", "demo"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "FLAMECREST__SERVER__LOG_LEVEL": "nonsense",
        "TMPDIR": str(tmp_path),
        "COLUMNS": "80",
        "PYTHONIOENCODING": "utf-8",
    }


def test_runs_until_interrupted(environment: dict[str, str], tmp_path: Path) -> None:
    """The tour succeeds, the four printed commands work, and Ctrl-C leaves no process or file."""
    with subprocess.Popen(
        [*COMMAND, "--files=5"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        lines = []
        try:
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if line.startswith("Press Ctrl-C"):
                    break
            said = "\n".join(lines)
            assert lines[-1:] == ["Press Ctrl-C to stop."], said + process.stderr.read()
            steps = re.findall(r"^ ✓ (\S+) ", said, re.MULTILINE)
            assert [step for step in steps if step != "state"] == [
                "centre", "gateway", "token", "systems", "systems", "nodes", "mkdir", "upload", "submit", "output",
                "submit", "download", "checksum", "upload", "download", "upload", "download", "upload", "download",
                "ls", "clean-up", "total",
            ]  # fmt: skip
            assert "COMPLETED on nid001" in said
            assert "job 1 with three elements on cluster-local" in said
            (variables,) = (line for line in lines if line.startswith("export API="))
            assert re.findall(r" (\w+)=", variables) == ["API", "SYSTEM", "WORK", "TOKEN"]
            (client,) = (line for line in lines if line.startswith("export CLIENT_ID="))
            (file,) = (line for line in lines if line.startswith("(umask 077; "))
            asked = 'curl -s -u "$CLIENT_ID:$CLIENT_SECRET" -d grant_type=client_credentials "$TOKEN_URL"'
            answer = subprocess.run(["bash", "-c", f"{client}\n{asked}"], capture_output=True, check=True).stdout
            assert json.loads(answer)["access_token"]
            systems, listing, job = (
                json.loads(
                    subprocess.run(
                        ["bash", "-c", f"{variables}\n{file}\n{line}"], cwd=tmp_path, capture_output=True, check=True
                    ).stdout
                )
                for line in lines
                if line.startswith("curl ")
            )
            assert systems["systems"][0]["name"] == "cluster-slurm-ssh"
            assert listing["output"] is not None
            assert job["jobId"] == "2"
            (top,) = (line for line in lines if "/flamecrest top http://127.0.0.1:" in line)
            view = subprocess.run(f"{top} --once", shell=True, capture_output=True, text=True, check=True).stdout
            assert "cluster-slurm-ssh" in view
            children = _children(process.pid)
            assert any(b"serve" in _line(child) for child in children)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=50) == 0
        assert process.stderr.read() == ""
    assert not any(processes.started(child) for child in children)
    assert not list(tmp_path.glob("flamecrest-*"))


@pytest.mark.parametrize("more", [(), ("--store",)])
def test_once_ends_after_the_tour(environment: dict[str, str], tmp_path: Path, more: tuple[str, ...]) -> None:
    done = subprocess.run(
        [*COMMAND, "--once", "--files=5", *more], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last == "All steps succeeded. The centre is stopped, and its files are removed."
    assert done.stdout.count("by pyfirecrest, through the object store") == 2 * len(more)
    assert not list(tmp_path.glob("flamecrest-*"))


def test_port_in_use(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "--once", f"--port={port}"], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is already in use" in done.stderr
    assert not list(tmp_path.glob("flamecrest-*"))


def test_failed_tour_exits_with_1_and_an_error(environment: dict[str, str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--once"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        for line in process.stdout:
            if " ✓ token " in line:
                (serving,) = (child for child in _children(process.pid) if b"serve" in _line(child))
                os.kill(serving, signal.SIGKILL)
                break
        process.stdout.read()
        assert "error: no response from the gateway: " in process.stderr.read()
        assert process.wait(timeout=50) == 1
    assert not list(tmp_path.glob("flamecrest-*"))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
