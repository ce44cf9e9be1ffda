"""Chooses a cluster's scheduler adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, assert_never

from flamecrest.server.auth.port import Identity
from flamecrest.server.health.board import Service
from flamecrest.server.schedulers.cli import CliScheduler
from flamecrest.server.schedulers.counters import SchedulerCounters
from flamecrest.server.schedulers.job_lookup import JobLookup
from flamecrest.server.schedulers.slurm.dialect import Slurm

if TYPE_CHECKING:
    from flamecrest.server.schedulers.dialect import Dialect
    from flamecrest.server.schedulers.port import Scheduler
    from flamecrest.server.settings import SchedulerSettings
    from flamecrest.server.ssh.port import Sessions


@dataclass(frozen=True, slots=True)
class SchedulerChoice:
    """A scheduler adapter: how it is made for a caller, the services that it goes through, and its counters."""

    make: Callable[[Identity], Scheduler]
    services: Sequence[Service]
    counters: SchedulerCounters


def choose_scheduler(settings: SchedulerSettings, sessions: Sessions) -> SchedulerChoice:
    """The adapter for the connection mode."""
    match settings.connection_mode:
        case "ssh":
            return _by_commands(choose_dialect(settings), sessions)
        case "rest" | "hybrid":
            raise NotImplementedError(settings.connection_mode)  # refused by require_supported
        case _:
            assert_never(settings.connection_mode)


def choose_dialect(settings: SchedulerSettings) -> Dialect:
    """The dialect of the batch system's commands."""
    match settings.type:
        case "slurm":
            return Slurm(bin_dir=settings.bin_dir)
        case "pbs":
            raise NotImplementedError(settings.type)  # not in SUPPORTED_SCHEDULERS: refused by require_supported
        case _:
            assert_never(settings.type)


def _by_commands(dialect: Dialect, sessions: Sessions) -> SchedulerChoice:
    counters = SchedulerCounters()
    make = partial(CliScheduler, dialect, JobLookup(dialect.name, counters), sessions)
    return SchedulerChoice(make, (Service.SSH, Service.SCHEDULER), counters)
