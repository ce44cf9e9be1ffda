"""Toy scontrol: shows the controller's state, holds and releases jobs, and returns their scripts."""

from __future__ import annotations

import os
import time

from flamecrest.sandbox.slurm import cluster, ids, scheduler
from flamecrest.sandbox.slurm.formats import (
    MAX_ARRAY_SIZE,
    CommandFailedError,
    parse_node_list,
    parse_time,
    write_error,
    write_output,
)
from flamecrest.sandbox.slurm.options import MAYBE, NO, YES, Options

from .program import Caller, chosen_cluster, controller_failure, require_controller
from .scontrol_show import job_lines, node_lines, partition_lines, reservation_lines
from .squeue import known_jobs, pending_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.sandbox.slurm.store import Store, StoredJob

OPTIONS = Options(
    "scontrol",
    {
        **dict.fromkeys(("all", "details", "future", "help", "hide", "local", "oneliner", "quiet", "sibling"), NO),
        **dict.fromkeys(("usage", "verbose", "version"), NO),
        **dict.fromkeys(("clusters", "cluster", "uid"), YES),
        "exclusive": MAYBE,
    },
    {
        "a": "all", "d": "details", "F": "future", "h": "help", "M": "clusters", "o": "oneliner", "Q": "quiet",
        "u": "uid", "v": "verbose", "V": "version",
    },
)  # fmt: skip
_INVALID = "Invalid job id specified"
_CHANGED = {"jobname": "name", "partition": "partition", "account": "account", "qos": "qos", "comment": "comment",
            "dependency": "dependency", "priority": "priority"}  # fmt: skip
_LOADED = {"job": "slurm_load_jobs", "node": "slurm_load_node", "partition": "slurm_load_partitions",
           "reservation": "slurm_load_reservations", "config": "slurm_load_ctl_conf"}  # fmt: skip


def main(store: Store, words: Sequence[str]) -> int:
    options, rest = OPTIONS.read(words, mixed=True)
    if "version" in options:
        write_output(f"slurm-wlm {cluster.VERSION}\n")
        return 0
    store = chosen_cluster(store, "scontrol", options)
    verb, *names = rest or [""]
    match verb.lower():
        case "ping":
            return _ping(store)
        case "show":
            return _show(store, names, options)
        case "write":
            return _write(store, names)
        case "hold" | "release" | "uhold":
            return _hold(store, names, held=verb.lower() != "release")
        case "update":
            return _update(store, names)
    raise CommandFailedError(f"invalid keyword: {verb}")


def _host() -> str:
    return os.uname().nodename.partition(".")[0]


def _ping(store: Store) -> int:
    down = bool(controller_failure(store, rounds=0 if store.setting("controller_down") else 1))
    write_output(f"Slurmctld(primary) at {_host()} is {'DOWN' if down else 'UP'}\n")
    return int(down)


def _show(store: Store, names: list[str], options: dict[str, str]) -> int:
    what, name = (names[0].lower() if names else ""), (names[1] if len(names) > 1 else "")
    kind = next((kind for kind in _LOADED if what and (kind + "s").startswith(what)), what)
    if kind in {"hostname", "hostnames"}:
        try:
            write_output("".join(f"{host}\n" for host in parse_node_list(name)))
        except ValueError:
            raise CommandFailedError(f"Invalid hostlist: {name}") from None
        return 0
    if kind not in _LOADED:
        raise CommandFailedError(f"invalid entity:{what} for keyword:show ")
    rounds = 2 if kind == "job" else 1
    require_controller(store, _LOADED[kind] + " error: {}", rounds=rounds)
    if kind == "config":
        _config(store)
        return 0
    show = {"job": _jobs, "node": _nodes, "partition": _partitions, "reservation": _reservations}[kind]
    for lines in show(store, name, options):
        separator, end = (" ", "\n") if "oneliner" in options else ("\n   ", "\n\n")
        write_output(separator.join(lines) + end)
    return 0


def _jobs(store: Store, name: str, options: dict[str, str]) -> list[list[str]]:
    jobs = known_jobs(store)
    if name:
        try:
            named = ids.parse_scontrol_id(name)
        except ValueError:
            raise CommandFailedError(f"scontrol_print_job error: {_INVALID}") from None
        jobs = _named(jobs, named)
        # the pending tasks of an array first, then those that have started, the last one first
        jobs.sort(key=lambda job: (not job.pending_tasks, -job.id))
    elif not jobs:
        write_output("No jobs in the system\n")
    return [job_lines(job, details="details" in options) for job in jobs]


def _named(jobs: list[StoredJob], named: ids.JobReference) -> list[StoredJob]:
    if named.number:
        jobs = [job for job in jobs if named.number in {job.id, job.array_job}]
    if not jobs:
        raise CommandFailedError(f"slurm_load_jobs error: {_INVALID}")
    found = [job for job in jobs if named.task is None or named.task in {job.array_task, *job.pending_tasks}]
    if not found or named.component:
        part = f"+{named.component}" if named.task is None else f"_{named.task}"
        write_output(f"Job {named.number}{part} not found\n")
        raise CommandFailedError
    task = named.task
    return [job if task is None or job.array_task == task else pending_task(job, task) for job in found]


def _nodes(store: Store, name: str, options: dict[str, str]) -> list[list[str]]:
    del options
    try:
        nodes = [node for node in cluster.node_states(store) if not name or node[0] in parse_node_list(name)]
    except ValueError:
        nodes = []
    if not nodes:
        write_output(f"Node {name} not found\n")
        raise CommandFailedError
    return [node_lines(store, *node) for node in nodes]


def _partitions(store: Store, name: str, options: dict[str, str]) -> list[list[str]]:
    partitions = [
        one for one in cluster.PARTITIONS if name == one.name or (not name and (not one.hidden or "all" in options))
    ]
    if not partitions:
        write_output(f"Partition {name} not found\n")
        raise CommandFailedError
    return [partition_lines(store, one) for one in partitions]


def _reservations(store: Store, name: str, options: dict[str, str]) -> list[list[str]]:
    del options
    if name not in {"", cluster.RESERVATION}:
        write_output(f"Reservation {name} not found\n")
        raise CommandFailedError
    return [reservation_lines(store)]


def _config(store: Store) -> None:
    values = {
        "ClusterName": cluster.CLUSTER,
        "MinJobAge": f"{store.setting('min_job_age'):.0f} sec",
        "KillWait": f"{store.setting('kill_wait'):.0f} sec",
        "MaxArraySize": str(MAX_ARRAY_SIZE),
        "MCSParameters": "(null)",
        "PrivateData": "jobs,nodes,reservations" if store.setting("private") else "none",
        "SLURM_VERSION": cluster.VERSION,
        "SlurmctldHost[0]": f"{_host()}(127.0.0.1)",
    }
    write_output(f"Configuration data as of {time.strftime('%Y-%m-%dT%H:%M:%S')}\n")
    write_output("".join(f"{name:<23} = {value}\n" for name, value in sorted(values.items())) + "\n")
    write_output(f"Slurmctld(primary) at {_host()} is UP\n")


def _write(store: Store, names: list[str]) -> int:
    """Run `write batch_script ID [FILE or -]`. The exit status is always 0."""
    if len(names) < 2 or names[0].lower() != "batch_script":
        raise CommandFailedError(f"invalid keyword: {names[0] if names else ''}")
    number, target = names[1], names[2] if len(names) > 2 else f"slurm-{names[1]}.sh"
    require_controller(store, "job script retrieval failed: {}", status=0)
    jobs = [job for job in known_jobs(store) if _means(job, number)]
    if not jobs:
        write_error(f"job script retrieval failed: {_INVALID}")
    elif not Caller(store).owns(jobs[0].user):
        write_error("job script retrieval failed: Invalid user id")
    elif target == "-":
        write_output(jobs[0].script.decode("utf-8", "surrogateescape"))
    else:
        with open(target, "wb") as file:  # noqa: PTH123 - pathlib is slow to import
            file.write(jobs[0].script)
        write_output(f"batch script for job {number} written to {target}\n")
    return 0


def _hold(store: Store, names: list[str], *, held: bool) -> int:
    require_controller(store, "slurm_suspend error: {}")
    caller, status = Caller(store), 0
    for name in names:
        found = _held(store, name)
        if not found:
            write_error(f"{_INVALID} for job {name}")
            raise CommandFailedError(f"slurm_suspend error: {_INVALID}")
        if not all(caller.owns(job.user) for job in found):
            write_error(f"Invalid user id for job {name}")
            raise CommandFailedError("slurm_suspend error: Invalid user id")
        for job in found:
            partition = cluster.partition(job.partition)
            priority = 0 if held else (partition.factor * 10 if partition else 1)
            store.update(job.id, held=int(held), reason="JobHeldUser" if held else "None", priority=priority)
    scheduler.schedule(store)
    return status


def _update(store: Store, words: list[str]) -> int:
    """Run `update JobId=ID NAME=VALUE …` for the fields of _CHANGED."""
    require_controller(store, "slurm_update error: {}")
    given = {name.lower(): value for name, _, value in (word.partition("=") for word in words)}
    name = given.pop("jobid", "")
    found = [job for job in known_jobs(store) if _means(job, name)]
    if not found:
        raise CommandFailedError(f"{_INVALID} for job {name}")
    if not all(Caller(store).owns(job.user) for job in found):
        raise CommandFailedError(f"Access/permission denied for job {name}")
    if all(job.finished for job in found):
        raise CommandFailedError(f"Job has already finished for job {name}")
    if "partition" in given and cluster.partition(given["partition"]) is None:
        raise CommandFailedError(f"Invalid partition name specified for job {name}")
    changed = _changed(name, given)
    if not changed:
        raise CommandFailedError("No changes specified")
    for job in found:
        if not job.finished:
            store.update(job.id, **changed)
    scheduler.schedule(store)
    return _outcome(found)


def _outcome(jobs: list[StoredJob]) -> int:
    """Tell the outcome for each part of an array of which elements have ended; nothing if none have."""
    if not any(job.finished for job in jobs):
        return 0
    for job in jobs:
        elements = ",".join(map(str, job.pending_tasks)) or job.array_task
        write_error(f"{job.array_job}_{elements}: {'Job has already finished' if job.finished else 'No error'}")
    return 1


def _changed(job: str, given: dict[str, str]) -> dict[str, object]:
    """The columns to change, by what `update` was given."""
    changed: dict[str, object] = {_CHANGED[name]: value for name, value in given.items() if name in _CHANGED}
    if "timelimit" in given:
        minutes, _, seconds = given["timelimit"].partition(":")
        changed["minutes"] = int(minutes) + bool(int(seconds or 0))
    if "starttime" in given:
        try:
            changed["begin"] = parse_time(given["starttime"])
        except ValueError:
            raise CommandFailedError(f"Invalid time specification for job {job}") from None
    return changed


def _held(store: Store, name: str) -> list[StoredJob]:
    return [job for job in known_jobs(store) if _means(job, name) and not job.nodelist and not job.finished]


def _means(job: StoredJob, name: str) -> bool:
    try:
        named = ids.parse_scontrol_id(name)
    except ValueError:
        return False
    return bool(named.number) and not named.component and named.means(job)
