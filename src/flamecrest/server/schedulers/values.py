"""Values of the Scheduler port: jobs, nodes, partitions, reservations, accounts.

Times are seconds since the epoch, durations seconds, memory MiB. Ids are text: `123`, `123_4`, `123.server`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job to submit. Exactly one of `script` (its text) and `script_path` (a path on the cluster) is set."""

    working_directory: str
    script: str | None = None
    script_path: str | None = None
    name: str | None = None
    account: str | None = None
    partition: str | None = None
    reservation: str | None = None
    constraints: str | None = None
    standard_input: str | None = None
    standard_output: str | None = None
    standard_error: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # may be secret


@dataclass(frozen=True, slots=True)
class JobTimes:
    """Times of a job or a step; None if the scheduler does not know them (yet)."""

    submit: int | None = None
    start: int | None = None
    end: int | None = None
    elapsed: int | None = None
    suspended: int | None = None
    limit: int | None = None  # None also for unlimited


@dataclass(frozen=True, slots=True)
class JobStep:
    """A part of a job: `123.batch`, `123.0`."""

    id: str
    name: str
    state: str
    exit_code: int | None = None
    signal: int | None = None
    times: JobTimes = JobTimes()


@dataclass(frozen=True, slots=True)
class Job:
    """A job, or one element of an array. `state` is in capitals, without flags."""

    id: str
    name: str
    state: str
    user: str | None = None
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    times: JobTimes = JobTimes()
    account: str | None = None
    group: str | None = None
    partition: str = ""
    cluster: str = ""
    nodes: str = ""
    node_count: int = 0
    priority: int | None = None
    working_directory: str = ""
    kill_request_user: str | None = None
    steps: Sequence[JobStep] = ()


@dataclass(frozen=True, slots=True)
class JobMetadata:
    """Script and paths that a job was submitted with."""

    id: str
    script: str | None = None
    standard_input: str | None = None
    standard_output: str | None = None
    standard_error: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A compute node. `states` are NodeStates of the wire."""

    name: str
    states: Sequence[str]
    cpus: int
    partitions: Sequence[str] = ()
    sockets: int | None = None
    cores: int | None = None
    threads: int | None = None
    cpu_load: float | None = None
    free_memory: int | None = None
    allocated_memory: int | None = None
    allocated_cpus: int | None = None
    idle_cpus: int | None = None
    features: str | None = None
    address: str | None = None
    hostname: str | None = None
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition or queue; `state` is that of the scheduler (`UP`, `DOWN`)."""

    name: str
    state: str
    cpus: int | None = None
    nodes: int | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation of nodes."""

    name: str
    nodes: str
    start: int
    end: int
    state: str | None = None
    features: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """An account that a user may charge."""

    name: str
    default: bool
