"""Values of the Scheduler port: jobs, nodes, partitions, reservations, accounts.

Times are seconds since the epoch, durations seconds, memory MiB. Ids are text: `123`, `123_4`, `123.server`.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Generic, Literal, TypeVar


@dataclass(frozen=True, slots=True)
class Resources:
    """What a job needs; None where the scheduler decides. Memory is in MiB, per node and per CPU."""

    nodes: int | None = None
    tasks: int | None = None
    tasks_per_node: int | None = None
    cpus_per_task: int | None = None
    memory: int | None = None
    memory_per_cpu: int | None = None
    gpus: int | None = None
    gpus_per_node: int | None = None
    gpu_type: str | None = None
    exclusive: bool | None = None
    features: str | None = None  # an expression in the scheduler's syntax


class DependencyKind(StrEnum):
    """When a dependency is fulfilled, by the outcome of the jobs that it names."""

    AFTER = "after"  # they have started
    AFTER_OK = "afterok"
    AFTER_NOT_OK = "afternotok"
    AFTER_ANY = "afterany"
    SINGLETON = "singleton"  # no other job of the same name and user is left; names no jobs


@dataclass(frozen=True, slots=True)
class Dependency:
    """A condition for the start of a job. All dependencies of a job must be fulfilled."""

    kind: DependencyKind
    job_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ArrayRequest:
    """The elements of a job array (`0-15`, `1,3,5-9:2`) and how many may run at once (None: no limit)."""

    elements: str
    max_running: int | None = None


@dataclass(frozen=True, slots=True)
class WarningSignal:
    """A signal that the job gets before its time limit: its name without SIG, and the seconds before the end."""

    name: str
    before_end: int = 60


class MailEvent(StrEnum):
    """An event that a mail is sent for."""

    BEGIN = "begin"
    END = "end"
    FAIL = "fail"
    REQUEUE = "requeue"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Mail:
    """Mails about a job; without an address to the user."""

    events: Sequence[MailEvent]
    address: str | None = None


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job to submit. Exactly one of `script` (its text) and `script_path` (a path on the cluster) is set.

    None, or an empty list, leaves a field to the script and to the scheduler. `native` holds options of the scheduler's
    own submission program. `marker` is a token of the gateway's that `Scheduler.find` finds the job by later.
    `idempotency_key` is the caller's: the same key and job are submitted once; `new_key` says that it was just made, so
    that there is no job to look for. `script_name` is the name of the file
    that `script` was read from.
    """

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
    resources: Resources = Resources()
    time_limit: int | None = None  # seconds
    qos: str | None = None
    priority: int | None = None
    array: ArrayRequest | None = None
    dependencies: Sequence[Dependency] = ()
    hold: bool | None = None
    begin: int | None = None  # epoch
    deadline: int | None = None  # epoch
    requeue: bool | None = None
    signal: WarningSignal | None = None
    mail: Mail | None = None
    comment: str | None = None
    licenses: str | None = None
    container: str | None = None
    native: Sequence[str] = ()
    marker: str | None = None
    idempotency_key: str | None = None
    new_key: bool = False
    script_name: str | None = None


@dataclass(frozen=True, slots=True)
class JobChange:
    """The fields of a job to change; None leaves a field as it is. Empty `dependencies` remove all of them."""

    name: str | None = None
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    priority: int | None = None
    time_limit: int | None = None  # seconds
    begin: int | None = None  # epoch
    dependencies: Sequence[Dependency] | None = None
    comment: str | None = None


class JobAction(StrEnum):
    """A change of a job's course."""

    HOLD = "hold"
    RELEASE = "release"
    REQUEUE = "requeue"
    SUSPEND = "suspend"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class SubmissionCheck:
    """The scheduler's estimate for a job that it would accept: when (epoch) and where; None if it does not tell."""

    start: int | None = None
    partition: str | None = None
    nodes: str | None = None
    cpus: int | None = None


SHOWN_STATES = frozenset(
    {
        *("PENDING", "RUNNING", "SUSPENDED", "STOPPED", "STAGE_OUT", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"),
        *("OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "PREEMPTED", "REVOKED", "UNKNOWN"),
    }
)
"""The states of jobs that are shown to callers. A scheduler may have others that are not known yet."""


class Stage(IntEnum):
    """The progress of a job. It never decreases within one run of the job."""

    WAITING = 0
    RUNNING = 1
    ENDED = 2


@dataclass(frozen=True, slots=True)
class JobUsage:
    """What an ended job has used: CPU seconds of all CPUs, and its largest memory on one node in MiB."""

    cpu_seconds: float | None = None
    max_memory: int | None = None


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
    """A job, or one element of an array. `state` is the scheduler's word, in capitals, without flags.

    What a job's state means for its progress is in `stage`: a state that is not known counts as one that has not ended
    as long as the queue knows the job.
    """

    id: str
    name: str
    state: str
    stage: Stage
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
    cpus: int | None = None
    memory: int | None = None  # MiB, of all nodes
    gpus: int | None = None
    qos: str | None = None
    dependency: str | None = None  # the unfulfilled conditions, as the scheduler writes them
    comment: str | None = None
    standard_output: str | None = None
    standard_error: str | None = None
    usage: JobUsage | None = None
    source: Literal["live", "history"] = "live"  # whether the state is that of the queue or of the accounting
    marker: str | None = None  # see JobSpec


T = TypeVar("T")


class SharedItem(Generic[T]):
    """One value of lists that requests share, the same object in all of them.

    `shown` is what the first reader of such a list has made of the value; all readers make the same of it.
    """

    __slots__ = ("shown", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self.shown: object = None


class SharedList(list[T]):
    """The list in an answer that requests share: it is not changed. `shown` is what the first reader has made of it.

    `items` are its values as items, which later lists contain as well if they were given.
    `parts` are what was made of parts of it, by what they are parts for.
    `news` is what has changed since an earlier list, as the first reader has made it, and a reference to that list.
    """

    __slots__ = ("__weakref__", "_items", "news", "parts", "shown")

    def __init__(self, values: Iterable[T], items: Sequence[SharedItem[T]] = ()) -> None:
        super().__init__(values)
        self._items = items
        self.shown: object = None
        self.parts: dict[Hashable, Any] = {}
        self.news: tuple[weakref.ref[Any], bytes] | None = None

    @classmethod
    def of(cls, items: Sequence[SharedItem[T]]) -> SharedList[T]:
        """The list of the items' values."""
        return cls((one.value for one in items), items)

    @property
    def items(self) -> Sequence[SharedItem[T]]:
        return self._items or [SharedItem(one) for one in self]


@dataclass(frozen=True, slots=True)
class JobMetadata:
    """Script and paths that a job was submitted with. `node` is the one that its script runs on."""

    id: str
    script: str | None = None
    standard_input: str | None = None
    standard_output: str | None = None
    standard_error: str | None = None
    node: str | None = None


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
