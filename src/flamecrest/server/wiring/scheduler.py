"""Chooses a cluster's scheduler adapter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, assert_never

from flamecrest.server.auth.port import Identity
from flamecrest.server.health.board import Service
from flamecrest.server.schedulers.cli import CliScheduler
from flamecrest.server.schedulers.cli_reader import AccountRunner, CliQueues
from flamecrest.server.schedulers.counters import SchedulerCounters
from flamecrest.server.schedulers.job_lookup import JobLookup
from flamecrest.server.schedulers.local.dialect import Local
from flamecrest.server.schedulers.local.program import Limits, Program
from flamecrest.server.schedulers.once.submissions import Submissions
from flamecrest.server.schedulers.pbs.dialect import Pbs
from flamecrest.server.schedulers.reading.cluster_reads import ClusterReads
from flamecrest.server.schedulers.reading.job_reads import JobReads
from flamecrest.server.schedulers.reading.joint_queues import JointQueues
from flamecrest.server.schedulers.reading.port import ReadLimits
from flamecrest.server.schedulers.reading.sharing import Privacy
from flamecrest.server.schedulers.slurm.dialect import Slurm
from flamecrest.server.schedulers.slurm.hybrid import HybridScheduler
from flamecrest.server.schedulers.slurm.rest.client import RestClient, http_client
from flamecrest.server.schedulers.slurm.rest.scheduler import RestScheduler
from flamecrest.server.schedulers.slurm.rest.tokens import OwnTokens, SignedTokens
from flamecrest.server.schedulers.slurm.rest.versions import parse_version

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.dialect import Dialect

    DialectOf = Dialect | Callable[[str], Dialect]
    Account = Callable[[Deadline], Awaitable[Identity]]
    from flamecrest.server.schedulers.port import Scheduler
    from flamecrest.server.schedulers.reading.joint_queues import ManyQueues
    from flamecrest.server.schedulers.reading.shared_answers import Question
    from flamecrest.server.schedulers.reading.sharing import Kind
    from flamecrest.server.settings import LocalSettings, SchedulerSettings, SharedReadsSettings
    from flamecrest.server.ssh.port import Sessions


@dataclass(frozen=True, slots=True)
class SchedulerChoice:
    """A scheduler adapter: how it is made for a caller, the services that it goes through, and its counters."""

    make: Callable[[Identity], Scheduler]
    services: Sequence[Service]
    counters: SchedulerCounters
    close: Callable[[], Awaitable[None]] | None = None  # closes its connections


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the adapters of one cluster share among users."""

    counters: SchedulerCounters
    lookup: JobLookup
    jobs: JobReads | None
    cluster: ClusterReads | None
    submissions: Submissions


def choose_scheduler(
    settings: SchedulerSettings, sessions: Sessions, account: Account | None = None
) -> SchedulerChoice:
    """The adapter for the connection mode. `account` is the cluster's service account, if there is one."""
    match settings.connection_mode:
        case "ssh":
            return _by_commands(settings, sessions, account)
        case "rest":
            return _by_rest(settings, sessions)
        case "hybrid":
            return _by_both(settings, sessions, account)
        case _:
            assert_never(settings.connection_mode)


def _by_commands(settings: SchedulerSettings, sessions: Sessions, account: Account | None) -> SchedulerChoice:
    runner = None if account is None else AccountRunner(sessions, account)
    many: ManyQueues | None = None
    match settings.type:
        case "slurm":
            slurm = Slurm(bin_dir=settings.bin_dir)
            dialect: DialectOf = slurm
            if runner is not None and settings.shared_reads.together:
                many = CliQueues(slurm.live_of, runner)
        case "pbs":
            dialect = Pbs(bin_dir=settings.bin_dir)
        case "local":
            dialect = partial(Local, Program(_limits(settings.local)))
        case _:
            assert_never(settings.type)
    return over_commands(settings.type, dialect, settings.shared_reads, sessions, runner, many)


def over_commands(
    name: str,
    dialect: DialectOf,
    shared_reads: SharedReadsSettings,
    sessions: Sessions,
    account: AccountRunner | None = None,
    many: ManyQueues | None = None,
) -> SchedulerChoice:
    """The adapter for the commands of a dialect: one for all users, or made with the name of each.

    `account` asks what all users share; a dialect that is made for each user shares nothing.
    """
    private = None if callable(dialect) else _private(dialect, account)
    shared = _shared(name, shared_reads, private, many)

    def of_user(identity: Identity) -> Scheduler:
        one = dialect(identity.username) if callable(dialect) else dialect
        return _commands(one, sessions, shared, None)(identity)

    make = of_user if callable(dialect) else _commands(dialect, sessions, shared, account)
    return SchedulerChoice(make, (Service.SSH, Service.SCHEDULER), shared.counters)


def _private(dialect: Dialect, account: AccountRunner | None) -> Question[frozenset[Kind]] | None:
    """The question what the scheduler keeps private, as the account asks it; None if nothing may be shared."""
    command = dialect.private()
    return None if command is None or account is None else partial(account.run, command)


def _limits(settings: LocalSettings) -> Limits:
    """The limits of the local scheduler, in MiB and whole seconds."""
    return Limits(
        state_folder=settings.state_folder,
        cpus=settings.cpus or 0,
        memory=_mebibytes(settings.memory),
        memory_per_job=_mebibytes(settings.memory_per_job),
        time_limit=ceil(settings.time_limit or 0),
        longest_time_limit=ceil(settings.longest_time_limit or 0),
        max_jobs=settings.max_jobs,
        kill_wait=ceil(settings.kill_wait),
        remember=ceil(settings.remember),
    )


def _mebibytes(size: int | None) -> int:
    return ceil((size or 0) / 2**20)


def _by_rest(settings: SchedulerSettings, sessions: Sessions) -> SchedulerChoice:
    shared = _shared(Slurm.name, settings.shared_reads)
    client = rest_client(settings)
    make = _slurmrestd(client, shared, sessions)
    return SchedulerChoice(make, (Service.SCHEDULER,), shared.counters, client.close)


def _by_both(settings: SchedulerSettings, sessions: Sessions, account: Account | None) -> SchedulerChoice:
    """Both adapters share the answers about jobs, so that each shows what a user has changed by the other."""
    client, dialect = rest_client(settings), Slurm(bin_dir=settings.bin_dir)
    runner = None if account is None else AccountRunner(sessions, account)
    shared = _shared(Slurm.name, settings.shared_reads, _private(dialect, runner))  # slurmrestd does not tell it
    by_commands, by_rest = _commands(dialect, sessions, shared, runner), _slurmrestd(client, shared, sessions, account)

    def make(identity: Identity) -> Scheduler:
        return HybridScheduler(by_rest(identity), by_commands(identity))

    return SchedulerChoice(make, (Service.SSH, Service.SCHEDULER), shared.counters, client.close)


def rest_client(settings: SchedulerSettings) -> RestClient:
    """The client of the cluster's slurmrestd."""
    key = settings.jwt_key
    tokens = OwnTokens() if key is None else SignedTokens(key.get_secret_value().encode("latin-1"))
    version = None if settings.api_version is None else parse_version(settings.api_version)
    return RestClient(*http_client(settings.api_url or ""), tokens, version)


def _commands(
    dialect: Dialect, sessions: Sessions, shared: _Shared, account: AccountRunner | None
) -> Callable[[Identity], CliScheduler]:
    """How the adapter for commands is made for a caller."""
    return partial(
        CliScheduler,
        dialect,
        shared.lookup,
        sessions,
        reads=shared.jobs,
        cluster_reads=shared.cluster,
        account=account,
        submissions=shared.submissions,
    )


def _slurmrestd(
    client: RestClient, shared: _Shared, sessions: Sessions, account: Account | None = None
) -> Callable[[Identity], RestScheduler]:
    """How the adapter for slurmrestd is made for a caller."""
    return partial(
        RestScheduler,
        client,
        shared.lookup,
        reads=shared.jobs,
        cluster_reads=shared.cluster,
        account=account,
        submissions=shared.submissions,
        runners=sessions,
    )


def _shared(
    name: str,
    settings: SharedReadsSettings,
    private: Question[frozenset[Kind]] | None = None,
    many: ManyQueues | None = None,
) -> _Shared:
    counters = SchedulerCounters()
    lookup = JobLookup(name, counters)
    submissions = Submissions()
    if settings.life <= 0:  # every request is to ask the scheduler
        return _Shared(counters, lookup, None, None, submissions)
    limits = ReadLimits(settings.life, settings.history_interval, settings.max_jobs)
    privacy = Privacy(private, counters, lookup.note_failure)
    cluster = ClusterReads(counters, privacy, life=settings.life, on_failure=lookup.note_failure)
    joint = None if many is None else JointQueues(many, lookup, counters, privacy)
    return _Shared(counters, lookup, JobReads(lookup, counters, limits, joint=joint), cluster, submissions)
