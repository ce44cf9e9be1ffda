"""Toy sbatch: parses options and script, checks them as Slurm does, and adds a job."""

# pathlib takes half as long to import as all other modules together.
# ruff: noqa: PTH109, PTH118, PTH123
from __future__ import annotations

import os
import sys
import time

from flamecrest.sandbox.slurm import cluster, scheduler
from flamecrest.sandbox.slurm.formats import fail, parse_array, parse_time, parse_time_limit, write_error, write_output

from .directives import OPTIONS, directives, read_script
from .program import SILENT, Caller, chosen_cluster, require_controller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.sandbox.slurm.store import Store

_FROM_ENVIRONMENT = {
    "SBATCH_ACCOUNT": "account",
    "SBATCH_ARRAY_INX": "array",
    "SLURM_CLUSTERS": "clusters",
    "SBATCH_CLUSTERS": "clusters",
    "SBATCH_EXPORT": "export",
    "SBATCH_JOB_NAME": "job-name",
    "SBATCH_PARTITION": "partition",
    "SBATCH_QOS": "qos",
    "SBATCH_RESERVATION": "reservation",
    "SBATCH_TIMELIMIT": "time",
    "SBATCH_WAIT": "wait",
}
_MAX_LENGTH = 1024  # the greatest number of characters of an option's value
_FAILED = "Batch job submission failed:"


def main(store: Store, words: Sequence[str]) -> int:
    given, rest = OPTIONS.read(words)
    if "version" in given:
        write_output(f"slurm-wlm {cluster.VERSION}\n")
        return 0
    script, command, name = read_script(given, rest)
    options = directives(script)
    options |= {option: os.environ[key] for key, option in _FROM_ENVIRONMENT.items() if key in os.environ}
    options |= given
    store = chosen_cluster(store, "sbatch", options)
    submission = Submission(store, options, command, [] if "wrap" in options else rest[1:])
    submission.values |= {
        "script": script,
        "name": options.get("job-name", name),
        "submit_line": " ".join(["sbatch", *words]),
    }
    require_controller(store, f"sbatch: error: {_FAILED} {{}}")
    submission.check()
    if "test-only" in options:
        return _tell_start(store, submission)
    with store.transaction():
        number = submission.write()
    scheduler.schedule(store)
    if store.setting("lost_answers"):
        time.sleep(store.setting("controller_timeout"))
        fail("sbatch", f"{_FAILED} {SILENT}")
    if "parsable" in options:
        write_output(f"{number};{cluster.CLUSTER}\n" if "clusters" in options else f"{number}\n")
    else:
        where = f" on cluster {cluster.CLUSTER}" if "clusters" in options else ""
        write_output(f"Submitted batch job {number}{where}\n")
    return _wait(store, number) if "wait" in options else 0


def _number(options: dict[str, str], name: str, default: int) -> int:
    text = options.get(name)
    if text is None:
        return default
    first = text.partition("-")[0]
    if not first.isdecimal() or int(first) == 0:
        if name == "nodes":
            fail("sbatch", f'"{text}" is not a valid node count', 255)
        fail("sbatch", f'Invalid numeric value "{text}" for --{name}.', 255)
    return int(first)


def _memory(text: str) -> int:
    """Parse --mem. Returns MiB."""
    units = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "M")
    if not digits.isdecimal() or unit not in units:
        fail("sbatch", "Invalid --mem specification", 255)
    return int(int(digits) * units[unit])


class Submission:
    """The values of a job to be submitted."""

    def __init__(self, store: Store, options: dict[str, str], command: str, arguments: list[str]) -> None:
        self._store = store
        self._options = options
        self._caller = Caller(store)
        self._elements: list[int] = []
        self.values: dict[str, object] = {
            "user": self._caller.name,
            "uid": self._caller.uid,
            "workdir": os.path.join(_here(), options.get("chdir", "")).rstrip("/") or "/",
            "command": command,
            "arguments": b"".join(os.fsencode(argument) + b"\0" for argument in arguments),
            "comment": options.get("comment", ""),
            "stdin": _real(options.get("input", "")),
            "stdout": _real(options.get("output", "")),
            "stderr": _real(options.get("error", "")),
            "append": int(options.get("open-mode", "t").startswith("a")),
            "environment": self._environment(),
            "held": int("hold" in options),
            "dependency": options.get("dependency", ""),
        }
        self._read_sizes()

    def _read_sizes(self) -> None:
        options = self._options
        nodes = _number(options, "nodes", 1)
        tasks = _number(options, "ntasks", nodes * _number(options, "ntasks-per-node", 1))
        each = _number(options, "cpus-per-task", 1)
        try:
            minutes = parse_time_limit(options["time"]) if "time" in options else None
        except ValueError:
            fail("sbatch", "Invalid --time specification", 255)
        try:
            begin = parse_time(options["begin"]) if "begin" in options else 0
        except ValueError:
            write_error(f"Invalid time specification (pos=0): {options['begin']}")
            fail("sbatch", "Invalid --begin specification", 255)
        memory = _memory(options["mem"]) if "mem" in options else 100 * -(-tasks * each // nodes)
        self.values |= {
            "nodes": nodes, "tasks": tasks, "cpus_per_task": each, "minutes": minutes, "begin": begin, "memory": memory
        }  # fmt: skip

    def check(self) -> None:
        """Check what the controller refuses."""
        options, user = self._options, self._caller.user
        if any(len(str(value)) > _MAX_LENGTH for value in (self.values["name"], *options.values())):
            fail("sbatch", f"{_FAILED} Pathname of a file, directory or other parameter too long")
        partition = cluster.partition(options.get("partition", "debug"))
        if partition is None:
            write_error(f"sbatch: error: invalid partition specified: {options['partition']}")
            fail("sbatch", f"{_FAILED} Invalid partition name specified")
        account = options.get("account", user.account if user else "").lower()
        if user is None or account not in user.accounts.split(","):
            fail("sbatch", f"{_FAILED} Invalid account or account/partition combination specified")
        qos = options.get("qos", "normal")
        if qos not in cluster.QOS_MINUTES:
            fail("sbatch", f"{_FAILED} Invalid qos specification")
        if options.get("constraint", cluster.FEATURE) != cluster.FEATURE:
            fail("sbatch", f"{_FAILED} Invalid feature specification")
        if int(str(self.values["memory"])) > cluster.MEMORY:
            write_error("sbatch: error: Memory specification can not be satisfied")
            fail("sbatch", f"{_FAILED} Requested node configuration is not available")
        self._check_reservation()
        self.values |= {
            "partition": partition.name,
            "account": account,
            "qos": qos,
            "features": options.get("constraint", ""),
            "priority": partition.factor * 10 + (10000 if qos == "high" else 0),
        }
        if self.values["minutes"] is None:
            self.values["minutes"] = partition.default_time
        self._check_limits(partition)
        if "array" in options:
            try:
                self._elements, self.values["array_limit"] = parse_array(options["array"])
            except ValueError:
                fail("sbatch", f"{_FAILED} Invalid job array specification")

    def _check_reservation(self) -> None:
        name = self._options.get("reservation", "")
        if name and name != cluster.RESERVATION:
            fail("sbatch", f"{_FAILED} Requested reservation is invalid")
        if name and self._caller.name not in cluster.RESERVED_FOR:
            fail("sbatch", f"{_FAILED} Access denied to requested reservation")
        self.values["reservation"] = name

    def _check_limits(self, partition: cluster.PartitionConfig) -> None:
        if not self._store.setting("strict_limits"):
            return
        nodes, cpus, minutes = (int(str(self.values[name])) for name in ("nodes", "cpus_per_task", "minutes"))
        if nodes > len(cluster.NODES) or cpus > self._store.setting("cpus"):
            fail("sbatch", f"{_FAILED} More processors requested than permitted")
        if minutes == 0 or minutes > partition.max_time:
            fail("sbatch", f"{_FAILED} Requested time limit is invalid (missing or exceeds some limit)")

    def write(self) -> int:
        """Add the job and return its number."""
        values = {**self.values, "submit": int(time.time())}
        if values["held"]:
            values |= {"priority": 0, "reason": "JobHeldUser"}
        number = self._store.add(**values)
        if self._elements:
            self._store.update(number, array_job=number, array_tasks=",".join(map(str, self._elements)))
        return number

    def _environment(self) -> bytes:
        mode, *assignments = self._options.get("export", "ALL").split(",")
        everything = {os.fsdecode(name): os.fsdecode(value) for name, value in os.environb.items()}
        login = {"HOME", "USER", "LOGNAME", "SHELL", "PATH"}
        kept = {name: value for name, value in everything.items() if name in login}
        if mode == "ALL":
            kept = everything
        elif mode not in {"NONE", "NIL"}:
            assignments.insert(0, mode)
        for assignment in assignments:
            name, equals, value = assignment.partition("=")
            if equals:
                kept[name] = value
            elif name in everything:
                kept[name] = everything[name]
        kept |= self._from_file()
        kept |= {"SLURM_SUBMIT_DIR": _here(), "SLURM_SUBMIT_HOST": os.uname().nodename.partition(".")[0]}
        return b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in kept.items())

    def _from_file(self) -> dict[str, str]:
        """The variables of --export-file, a path or a descriptor: NAME=VALUE, each terminated by NUL."""
        source = self._options.get("export-file", "")
        if not source:
            return {}
        try:
            with open(int(source) if source.isdecimal() else source, "rb") as file:
                entries = [os.fsdecode(entry) for entry in file.read().split(b"\0")]
        except OSError:
            fail("sbatch", f"--export-file={source} cannot be read")
        return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def _here() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def _real(path: str) -> str:
    return os.devnull if path == "none" else path


def _tell_start(store: Store, submission: Submission) -> int:
    """--test-only: print when and where the job would start to standard error."""
    number = max((job.id for job in store.jobs()), default=0) + 1
    when = time.strftime("%Y-%m-%dT%H:%M:%S")
    cpus = max(int(str(submission.values["nodes"])), int(str(submission.values["tasks"])))
    where = f"using {cpus} processors on nodes {cluster.NODES[0]} in partition {submission.values['partition']}"
    write_error(f"sbatch: Job {number} to start at {when} {where}")
    return 0


def _wait(store: Store, number: int) -> int:
    """--wait: wait for the end of the job and return its exit status."""
    sys.stdout.flush()
    while True:
        jobs = store.jobs("id = ? OR array_job = ?", number, number)
        if all(job.finished for job in jobs):
            return max((job.status >> 8 & 0xFF) or (1 if job.status else 0) for job in jobs)
        time.sleep(0.05)
