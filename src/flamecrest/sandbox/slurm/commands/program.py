"""Common to all executables: open the state, apply faults, run the command, and set the exit status."""

# pathlib takes half as long to import as all other modules together.
# ruff: noqa: PTH112
from __future__ import annotations

import os
import sys
import time

from flamecrest.sandbox.slurm import cluster, scheduler
from flamecrest.sandbox.slurm.formats import CommandFailedError, write_error
from flamecrest.sandbox.slurm.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flamecrest.sandbox.slurm.store import UserRecord

SILENT = "Socket timed out on send/recv operation"
UNREACHABLE = "Unable to contact slurm controller (connect failure)"


class Caller:
    """The user who runs a program, from the variable USER: sandbox users are not system accounts."""

    def __init__(self, store: Store) -> None:
        self.name = os.environ.get("USER", "")
        user = store.user(self.name)
        self.user: UserRecord | None = user
        self.uid = user.uid if user else os.getuid()

    def owns(self, user: str) -> bool:
        return self.name in {user, "root"}


def main() -> int:
    """Run a command. sys.argv holds its name, the directory of the state, and its own arguments."""
    name, folder, *words = sys.argv[1:]
    program: Callable[[Store, Sequence[str]], int] = __import__(f"{__package__}.{name}", fromlist=["main"]).main
    store = Store(folder)
    try:
        if slow := store.setting("slow"):
            time.sleep(slow)
        status = program(store, words)
        sys.stdout.flush()
    except CommandFailedError as refusal:
        for line in refusal.lines:
            write_error(line)
        status = refusal.status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 1
    finally:
        store.close()
    return status


def chosen_cluster(store: Store, program: str, options: Mapping[str, str]) -> Store:
    """The state of the cluster that --clusters names; without it, that of the login node's own."""
    name = options.get("clusters", cluster.CLUSTER)
    if name == cluster.CLUSTER:
        return store
    folder = f"{store.folder}/clusters/{name}"
    if not os.path.isdir(folder):
        hint = "Use 'sacctmgr list clusters' to see available clusters."
        raise CommandFailedError(
            f"{program}: error: No cluster '{name}' known by database.",
            f"{program}: error: '{name}' can't be reached now, or it is an invalid entry for --cluster.  {hint}",
        )
    cluster.CLUSTER = name
    return Store(folder)


def controller_failure(store: Store, rounds: int = 1) -> str:
    """Why slurmctld does not respond, after the time that a command waits for it; "" if it does."""
    down, silent = store.setting("controller_down"), store.setting("controller_silent")
    if not down and not silent:
        return ""
    time.sleep(store.setting("controller_timeout") * rounds)
    return UNREACHABLE if down else SILENT


def require_controller(store: Store, *lines: str, status: int = 1, rounds: int = 1) -> None:
    """End with `lines` if slurmctld does not respond; each {} is replaced by the reason."""
    if reason := controller_failure(store, rounds):
        raise CommandFailedError(*(line.format(reason) for line in lines), status=status)
    scheduler.schedule_if_due(store)


def require_accounting(store: Store, program: str, *lines: str) -> None:
    """End with the program's error message if slurmdbd does not respond, or if there is no accounting."""
    if store.setting("no_records"):
        if program == "sacct":
            raise CommandFailedError("Slurm accounting storage is disabled")
        raise CommandFailedError(
            "You are not running a supported accounting_storage plugin",
            "Only 'accounting_storage/slurmdbd' is supported.",
        )
    if store.setting("records_down"):
        raise CommandFailedError(
            f"{program}: error: slurm_persist_conn_open_without_init: failed to open persistent connection to "
            "host:127.0.0.1:6819: Connection refused",
            f"{program}: error: Sending PersistInit msg: Connection refused",
            *lines,
        )
