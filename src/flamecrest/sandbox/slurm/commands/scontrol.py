"""Toy scontrol: shows what the controller knows, holds and releases jobs, and gives back their scripts."""

from __future__ import annotations

import os
import time

from flamecrest.sandbox.slurm import ids, machine, scheduler
from flamecrest.sandbox.slurm.formats import MAX_ARRAY, Refused, complain, read_node_list, say
from flamecrest.sandbox.slurm.options import MAYBE, NO, YES, Options

from .program import Caller, ask_controller, no_answer
from .scontrol_show import job_lines, node_lines, partition_lines, reservation_lines
from .squeue import element, known

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.sandbox.slurm.store import Job, Store

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
_LOADED = {"job": "slurm_load_jobs", "node": "slurm_load_node", "partition": "slurm_load_partitions",
           "reservation": "slurm_load_reservations", "config": "slurm_load_ctl_conf"}  # fmt: skip


def main(store: Store, words: Sequence[str]) -> int:
    options, rest = OPTIONS.read(words, mixed=True)
    if "version" in options:
        say(f"slurm-wlm {machine.VERSION}\n")
        return 0
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
    raise Refused(f"invalid keyword: {verb}")


def _host() -> str:
    return os.uname().nodename.partition(".")[0]


def _ping(store: Store) -> int:
    down = bool(no_answer(store, rounds=0 if store.setting("controller_down") else 1))
    say(f"Slurmctld(primary) at {_host()} is {'DOWN' if down else 'UP'}\n")
    return int(down)


def _show(store: Store, names: list[str], options: dict[str, str]) -> int:
    what, name = (names[0].lower() if names else ""), (names[1] if len(names) > 1 else "")
    kind = next((kind for kind in _LOADED if what and (kind + "s").startswith(what)), what)
    if kind in {"hostname", "hostnames"}:
        try:
            say("".join(f"{host}\n" for host in read_node_list(name)))
        except ValueError:
            raise Refused(f"Invalid hostlist: {name}") from None
        return 0
    if kind not in _LOADED:
        raise Refused(f"invalid entity:{what} for keyword:show ")
    rounds = 2 if kind == "job" else 1
    ask_controller(store, _LOADED[kind] + " error: {}", rounds=rounds)
    if kind == "config":
        _config(store)
        return 0
    show = {"job": _jobs, "node": _nodes, "partition": _partitions, "reservation": _reservations}[kind]
    for lines in show(store, name, options):
        separator, end = (" ", "\n") if "oneliner" in options else ("\n   ", "\n\n")
        say(separator.join(lines) + end)
    return 0


def _jobs(store: Store, name: str, options: dict[str, str]) -> list[list[str]]:
    jobs = known(store)
    if name:
        try:
            named = ids.shown(name)
        except ValueError:
            raise Refused(f"scontrol_print_job error: {_INVALID}") from None
        jobs = _named(jobs, named)
        # an array's waiting elements first, then those that have started, the last one first
        jobs.sort(key=lambda job: (not job.waiting, -job.id))
    elif not jobs:
        say("No jobs in the system\n")
    return [job_lines(job, details="details" in options) for job in jobs]


def _named(jobs: list[Job], named: ids.Named) -> list[Job]:
    if named.number:
        jobs = [job for job in jobs if named.number in {job.id, job.array_job}]
    if not jobs:
        raise Refused(f"slurm_load_jobs error: {_INVALID}")
    found = [job for job in jobs if named.task is None or named.task in {job.array_task, *job.waiting}]
    if not found or named.component:
        part = f"+{named.component}" if named.task is None else f"_{named.task}"
        say(f"Job {named.number}{part} not found\n")
        raise Refused
    task = named.task
    return [job if task is None or job.array_task == task else element(job, task) for job in found]


def _nodes(store: Store, name: str, options: dict[str, str]) -> list[list[str]]:
    del options
    try:
        nodes = [node for node in machine.node_states(store) if not name or node[0] in read_node_list(name)]
    except ValueError:
        nodes = []
    if not nodes:
        say(f"Node {name} not found\n")
        raise Refused
    return [node_lines(store, *node) for node in nodes]


def _partitions(store: Store, name: str, options: dict[str, str]) -> list[list[str]]:
    partitions = [
        one for one in machine.PARTITIONS if name == one.name or (not name and (not one.hidden or "all" in options))
    ]
    if not partitions:
        say(f"Partition {name} not found\n")
        raise Refused
    return [partition_lines(store, one) for one in partitions]


def _reservations(store: Store, name: str, options: dict[str, str]) -> list[list[str]]:
    del options
    if name not in {"", machine.RESERVATION}:
        say(f"Reservation {name} not found\n")
        raise Refused
    return [reservation_lines(store)]


def _config(store: Store) -> None:
    values = {
        "ClusterName": machine.CLUSTER,
        "MinJobAge": f"{store.setting('min_job_age'):.0f} sec",
        "KillWait": f"{store.setting('kill_wait'):.0f} sec",
        "MaxArraySize": str(MAX_ARRAY),
        "SLURM_VERSION": machine.VERSION,
        "SlurmctldHost[0]": f"{_host()}(127.0.0.1)",
    }
    say(f"Configuration data as of {time.strftime('%Y-%m-%dT%H:%M:%S')}\n")
    say("".join(f"{name:<23} = {value}\n" for name, value in sorted(values.items())) + "\n")
    say(f"Slurmctld(primary) at {_host()} is UP\n")


def _write(store: Store, names: list[str]) -> int:
    """Answer `write batch_script ID [FILE or -]`; the exit status is 0 whatever happens."""
    if len(names) < 2 or names[0].lower() != "batch_script":
        raise Refused(f"invalid keyword: {names[0] if names else ''}")
    number, target = names[1], names[2] if len(names) > 2 else f"slurm-{names[1]}.sh"
    ask_controller(store, "job script retrieval failed: {}", status=0)
    jobs = [job for job in known(store) if _means(job, number)]
    if not jobs:
        complain(f"job script retrieval failed: {_INVALID}")
    elif not Caller(store).owns(jobs[0].user):
        complain("job script retrieval failed: Invalid user id")
    elif target == "-":
        say(jobs[0].script.decode("utf-8", "surrogateescape"))
    else:
        with open(target, "wb") as file:  # noqa: PTH123 - pathlib is slow to import
            file.write(jobs[0].script)
        say(f"batch script for job {number} written to {target}\n")
    return 0


def _hold(store: Store, names: list[str], *, held: bool) -> int:
    ask_controller(store, "slurm_suspend error: {}")
    caller, status = Caller(store), 0
    for name in names:
        found = _held(store, name)
        if not found:
            complain(f"{_INVALID} for job {name}")
            raise Refused(f"slurm_suspend error: {_INVALID}")
        if not all(caller.owns(job.user) for job in found):
            complain(f"Invalid user id for job {name}")
            raise Refused("slurm_suspend error: Invalid user id")
        for job in found:
            partition = machine.partition(job.partition)
            priority = 0 if held else (partition.factor * 10 if partition else 1)
            store.update(job.id, held=int(held), reason="JobHeldUser" if held else "None", priority=priority)
    scheduler.turn(store)
    return status


def _held(store: Store, name: str) -> list[Job]:
    return [job for job in known(store) if _means(job, name) and not job.nodelist and not job.over]


def _means(job: Job, name: str) -> bool:
    try:
        named = ids.shown(name)
    except ValueError:
        return False
    return bool(named.number) and not named.component and named.means(job)
