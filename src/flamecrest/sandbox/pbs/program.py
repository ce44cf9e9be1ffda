"""The executables of the toy PBS: the commands about jobs, pbsnodes and pbs_rstat."""

from __future__ import annotations

import contextlib
import getopt
import json
import os
import signal
import sys
import time

from . import submitting
from .runner import close_array, start_all
from .store import CPUS, NODE, QUEUES, SERVER, RefusedError, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def main() -> int:
    """Run a command. sys.argv holds its name, the directory of the state, and its own arguments."""
    name, folder, *words = sys.argv[1:]
    try:
        if name == "qsub":
            return submitting.main(folder, words)
        start_all(folder)  # whose time has come
        return _PROGRAMS[name](folder, words)
    except getopt.GetoptError as error:
        sys.stderr.write(f"{name}: invalid option -- '{error.opt}'\nusage: {name}\n")
        return 2
    except RefusedError as refusal:
        sys.stderr.write(f"{name}: {refusal}\n")
        return refusal.status


def _document(section: str, entries: dict[str, Any]) -> None:
    head = {"timestamp": int(time.time()), "pbs_version": "23.06.06", "pbs_server": SERVER}
    json.dump({**head, **({section: entries} if entries else {})}, sys.stdout, indent=4, separators=(",", ":"))
    sys.stdout.write("\n")


def _qstat(folder: str, words: Sequence[str]) -> int:
    given, ids = getopt.getopt(list(words), "ExtfF:QB")
    options = dict(given)
    if "-B" in options:
        _document("Server", {SERVER: {"server_state": "Active", "server_host": SERVER, "query_other_jobs": "True"}})
        return 0
    if "-Q" in options:
        _document(
            "Queue", {name: dict(zip(("enabled", "started"), flags, strict=True)) for name, flags in QUEUES.items()}
        )
        return 0
    status, chosen = 0, []
    with State(folder) as state:
        for text in ids or [one for one in state.jobs if "[]" in one or "[" not in one]:
            try:
                chosen += state.find(text)
            except RefusedError as refusal:
                if "-E" not in options:
                    sys.stderr.write(f"qstat: {refusal}\n")
                    status = refusal.status
        if "-t" in options:
            chosen = [one for job_id in chosen for one in dict.fromkeys([job_id, *state.elements(job_id)])]
        jobs = {one: state.jobs[one] for one in chosen if "-x" in options or state.jobs[one]["job_state"] != "F"}
    _document("Jobs", {one: {key: value for key, value in job.items() if key[0] != "_"} for one, job in jobs.items()})
    return status


def _qselect(folder: str, words: Sequence[str]) -> int:
    options = dict(getopt.getopt(list(words), "xu:s:")[0])
    with State(folder) as state:
        for job_id, job in state.jobs.items():
            mine = job["Job_Owner"].partition("@")[0] == options.get("-u", job["Job_Owner"].partition("@")[0])
            if mine and ("[" not in job_id or "[]" in job_id) and ("-x" in options or job["job_state"] != "F"):
                sys.stdout.write(f"{job_id}\n")
    return 0


def _each(program: str, options: str, change: Callable[[State, str, dict[str, str]], None]) -> Callable[..., int]:
    """A program that changes jobs: of several, each on its own; the exit status is that of the last failure."""

    def run(folder: str, words: Sequence[str]) -> int:
        given, ids = getopt.getopt(list(words), options)
        status = 0
        with State(folder) as state:
            for text in ids:
                try:
                    for job_id in state.find(text):
                        _authorize(state, job_id)
                        change(state, job_id, dict(given))
                except RefusedError as refusal:
                    sys.stderr.write(f"{program}: {refusal}\n")
                    status = refusal.status
        start_all(folder)
        return status

    return run


def _authorize(state: State, job_id: str) -> None:
    if os.environ.get("USER") != state.jobs[job_id]["Job_Owner"].partition("@")[0]:
        raise RefusedError(f"Unauthorized Request  {job_id}", 159)


def _delete(state: State, job_id: str, options: dict[str, str]) -> None:
    del options
    if state.jobs[job_id]["job_state"] == "F":
        raise RefusedError(f"Job has finished {job_id}", 35)
    for one in state.elements(job_id):
        job = state.jobs[one]
        running = job["job_state"] == "R"
        if job["job_state"] != "F":
            job["substate"] = 91
        if running and "_pid" in job:
            with contextlib.suppress(ProcessLookupError):  # it has ended, which is not written down yet
                os.killpg(job["_pid"], signal.SIGTERM)
        elif not running and job["job_state"] != "F":
            job |= {"job_state": "F", "history_timestamp": int(time.time())}
            close_array(state, one)


def _hold(state: State, job_id: str, options: dict[str, str]) -> None:
    del options
    for one in dict.fromkeys([job_id, *state.elements(job_id)]):
        job = state.jobs[one]
        if job["job_state"] == "F":
            raise RefusedError(f"Job has finished {one}", 35)
        job["Hold_Types"] = "u"
        if job["job_state"] in "QW":
            job |= {"job_state": "H", "substate": 20}


def _release(state: State, job_id: str, options: dict[str, str]) -> None:
    del options
    for one in dict.fromkeys([job_id, *state.elements(job_id)]):
        job = state.jobs[one]
        job["Hold_Types"] = "n"
        if job["job_state"] == "H":
            job |= {"job_state": "Q", "substate": 10}


def _rerun(state: State, job_id: str, options: dict[str, str]) -> None:
    del state, options
    raise RefusedError(f"Unauthorized Request  {job_id}", 159)


def _signal(state: State, job_id: str, options: dict[str, str]) -> None:
    name, job = options.get("-s", "SIGTERM"), state.jobs[job_id]
    if name in {"suspend", "resume"}:
        raise RefusedError(f"Unauthorized Request  {job_id}", 159)
    if job["job_state"] == "F":
        raise RefusedError("Job has finished", 35)
    if job["job_state"] != "R" or "_pid" not in job:
        raise RefusedError(f"Request invalid for state of job {job_id}", 168)
    numbers = {one.name: one.value for one in signal.Signals}
    number = int(name) if name.isdigit() else numbers.get(name if name.startswith("SIG") else f"SIG{name}")
    if number is None:
        raise RefusedError(f"Unknown/illegal signal name {job_id}", 25)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(job["_pid"], number)


def _alter(state: State, job_id: str, options: dict[str, str]) -> None:
    job = state.jobs[job_id]
    if job["job_state"] == "F":
        raise RefusedError(f"Job has finished {job_id}", 35)
    names = {"-N": "Job_Name", "-A": "Account_Name", "-p": "Priority"}
    job |= {names[option]: value for option, value in options.items() if option in names}
    for name, _, value in (part.partition("=") for part in options.get("-l", "").split(",") if part):
        job["Resource_List"][name] = value


def _pbsnodes(folder: str, words: Sequence[str]) -> int:
    getopt.getopt(list(words), "avF:")
    with State(folder) as state:
        jobs = [one for one, job in state.jobs.items() if job["job_state"] == "R" and "array" not in job]
    used = min(CPUS, len(jobs))
    entry = {
        "Mom": NODE, "ntype": "PBS", "state": "free" if used < CPUS else "job-busy", "pcpus": CPUS, "jobs": jobs,
        "resources_available": {"arch": "linux", "host": NODE, "mem": "16gb", "ncpus": CPUS, "vnode": NODE},
        "resources_assigned": {"ncpus": used}, "resv_enable": "True", "sharing": "default_shared",
    }  # fmt: skip
    _document("nodes", {NODE: entry})
    return 0


def _pbs_rstat(folder: str, words: Sequence[str]) -> int:
    del folder
    getopt.getopt(list(words), "fFBS")
    return 0


_PROGRAMS: dict[str, Callable[[str, Sequence[str]], int]] = {
    "qstat": _qstat,
    "qselect": _qselect,
    "qdel": _each("qdel", "W:x", _delete),
    "qhold": _each("qhold", "h:", _hold),
    "qrls": _each("qrls", "h:", _release),
    "qrerun": _each("qrerun", "W:", _rerun),
    "qsig": _each("qsig", "s:", _signal),
    "qalter": _each("qalter", "a:A:l:N:p:W:", _alter),
    "pbsnodes": _pbsnodes,
    "pbs_rstat": _pbs_rstat,
}
PROGRAMS = ("qsub", *_PROGRAMS)
