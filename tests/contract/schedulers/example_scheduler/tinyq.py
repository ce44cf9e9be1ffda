"""tinyq, a made-up batch system in one program: `tinyq submit|show|stop|hold|free|hosts|lines`.

Its state is a JSON file in the folder that is its first argument. Each job runs in a process of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import getopt
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Never

HOST, CPUS, LINES = "tiny1", 4, ("fast", "slow")
REFUSED, USAGE, UNKNOWN_JOB, NOT_YOURS, WRONG_STATE = 1, 2, 3, 4, 5
WAITING, ENDED = ("waiting", "held"), ("done", "failed", "stopped", "late")


def fail(status: int, message: str) -> Never:
    sys.stderr.write(f"tinyq: {message}\n")
    sys.exit(status)


@contextmanager
def locked(folder: Path) -> Iterator[dict[str, Any]]:
    """The jobs by id; changes are written at the end of the block."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / "jobs.json"
        jobs = json.loads(path.read_text()) if path.exists() else {}
        yield jobs
        new = folder / "jobs.new"
        new.write_text(json.dumps(jobs))
        new.replace(path)


def submit(folder: Path, words: Sequence[str]) -> None:
    given, rest = getopt.getopt(list(words), "d:n:l:o:e:t:c:m:H")
    options = dict(given)
    try:
        script = Path(rest[0]).read_bytes() if rest else sys.stdin.buffer.read()
    except OSError as error:
        fail(REFUSED, f"no script: {error.strerror}")
    line, where, cpus = options.get("-l", LINES[0]), options["-d"], int(options.get("-c", 1))
    if line not in LINES:
        fail(REFUSED, f"no such line: {line}")
    if not script.startswith(b"#!"):
        fail(REFUSED, "no script: it does not begin with #!")
    if cpus > CPUS:
        fail(REFUSED, f"more cpus than the host has: {cpus}")
    with locked(folder) as jobs:
        job_id = str(len(jobs) + 1)
        (folder / f"{job_id}.script").write_bytes(script)
        (folder / f"{job_id}.script").chmod(0o700)
        jobs[job_id] = {
            "id": int(job_id), "name": options.get("-n", "script"), "user": os.environ["USER"], "line": line,
            "dir": where, "out": os.path.join(where, options.get("-o", f"tinyq-{job_id}.out")),  # noqa: PTH118
            "err": os.path.join(where, options.get("-e", f"tinyq-{job_id}.err")), "cpus": cpus,  # noqa: PTH118
            "limit": int(options["-t"]) if "-t" in options else None, "mark": options.get("-m"), "code": None,
            "state": "held" if "-H" in options else "waiting", "submit": int(time.time()), "start": None, "end": None,
            "host": None, "pid": None, "env": dict(os.environ),
        }  # fmt: skip
    run_detached(folder, job_id)
    sys.stdout.write(f"queued {job_id}\n")


def show(folder: Path, words: Sequence[str]) -> None:
    given, ids = getopt.getopt(list(words), "u:")
    user = dict(given).get("-u")
    with locked(folder) as jobs:
        chosen = [jobs[one] for one in ids if one in jobs] if ids else list(jobs.values())
    hidden = {"env", "pid"}
    found = [{k: v for k, v in one.items() if k not in hidden} for one in chosen if user in (None, one["user"])]
    print(json.dumps(found))


def change(folder: Path, verb: str, words: Sequence[str]) -> None:
    (job_id,) = words
    with locked(folder) as jobs:
        job = jobs.get(job_id) or fail(UNKNOWN_JOB, f"no such job: {job_id}")
        if job["user"] != os.environ["USER"]:
            fail(NOT_YOURS, f"job {job_id} is not yours")
        if job["state"] in ENDED or (verb != "stop" and job["state"] not in WAITING):
            fail(WRONG_STATE, f"job {job_id} is {job['state']}")
        if verb == "stop":
            job |= {"state": "stopped", "end": int(time.time())}
            if job["pid"] is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(job["pid"], signal.SIGKILL)
        else:
            job["state"] = "held" if verb == "hold" else "waiting"
    if verb == "free":
        run_detached(folder, job_id)


def run_detached(folder: Path, job_id: str) -> None:
    """Run the job, if it waits, in a process that outlives this one."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.closerange(3, 1024)
    try:
        run(folder, job_id)
    finally:
        os._exit(0)


def run(folder: Path, job_id: str) -> None:
    with locked(folder) as jobs:
        job = jobs[job_id]
        if job["state"] != "waiting":
            return
        child = os.fork()
        if child == 0:
            become(folder / f"{job_id}.script", job)
        job |= {"state": "running", "start": int(time.time()), "host": HOST, "pid": child}
    until, late = time.monotonic() + (job["limit"] or 1e9), False
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if late := time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.02)
    code = os.waitstatus_to_exitcode(ended[1])
    with locked(folder) as jobs:
        state = "late" if late else "done" if code == 0 else "failed"
        if jobs[job_id]["state"] == "running":
            jobs[job_id] |= {"state": state, "end": int(time.time()), "code": max(code, 0)}


def become(script: Path, job: dict[str, Any]) -> Never:
    """Replace this process by the script."""
    try:
        os.setsid()
        os.chdir(job["dir"])
        for number, key in ((1, "out"), (2, "err")):
            os.dup2(os.open(job[key], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        os.execve(script, [str(script)], {**job["env"], "TINYQ_JOB": str(job["id"])})
    finally:
        os._exit(127)


def main() -> None:
    folder, verb, *words = sys.argv[1:]
    match verb:
        case "submit":
            submit(Path(folder), words)
        case "show":
            show(Path(folder), words)
        case "stop" | "hold" | "free":
            change(Path(folder), verb, words)
        case "hosts":
            print(json.dumps([{"host": HOST, "cpus": CPUS}]))
        case "lines":
            print(json.dumps([{"line": line} for line in LINES]))
        case _:
            fail(USAGE, f"unknown verb: {verb}")


if __name__ == "__main__":
    main()
