"""ToySlurm: creates the toy Slurm in a directory, changes its settings and finds its processes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flamecrest.sandbox import executables

from . import cluster
from .commands import program
from .store import Store, StoredJob

if TYPE_CHECKING:
    from flamecrest.sandbox.users import UnixUsers

PROGRAMS = ("sbatch", "squeue", "sacct", "scontrol", "sinfo", "sacctmgr", "scancel", "srun")


class ToySlurm:
    """A Slurm for the users of a sandbox, in the directory `<root>/slurm`.

    `accounts` maps a user to the accounts that the user may charge, the default first. Other users have `test`, and
    fireuser has `test` and `other`.
    """

    def __init__(self, users: UnixUsers, *, accounts: Mapping[str, Sequence[str]] | None = None) -> None:
        self.folder = users.root / "slurm"
        self.bin_dir = users.root / "slurm" / "bin"
        self._users = users
        self._accounts = {"fireuser": cluster.ACCOUNTS, **(accounts or {})}

    def start(self, **settings: float) -> None:
        """Write the executables and the state, and change settings (store.SETTINGS)."""
        self.bin_dir.mkdir(parents=True, exist_ok=True)
        for name in PROGRAMS:
            executables.write_program(self.bin_dir / name, program.__name__, name, str(self.folder))
        with self._store() as store:
            self._create(store)
        self.set(**{"began": time.time(), **settings})

    def add_cluster(self, name: str) -> None:
        """Add a cluster with the same users. Its jobs have numbers from 1 on; `--clusters` chooses it."""
        folder = self.folder / "clusters" / name
        folder.mkdir(parents=True, exist_ok=True)
        store = Store(str(folder))
        self._create(store)
        store.close()

    def _create(self, store: Store) -> None:
        store.create()
        for user in self._users:
            accounts = self._accounts.get(user.name, ("test",))
            store.put_user(
                name=user.name,
                uid=user.uid,
                home=str(user.home),
                account=accounts[0] if accounts else "",
                accounts=",".join(accounts),
            )

    def set(self, **settings: float) -> None:
        """Change settings and faults (store.SETTINGS) for all commands from now on."""
        with self._store() as store:
            for name, value in settings.items():
                store.set(name, value)

    def end(self, number: int, state: str) -> None:
        """End a job that has not begun, as the controller does: `PREEMPTED`, `NODE_FAIL`."""
        now = time.time()
        with self._store() as store:
            store.update(number, state=state, end=int(now), ended=now)

    def jobs(self) -> list[StoredJob]:
        """All jobs, including those that the controller has forgotten."""
        with self._store() as store:
            return store.jobs()

    def sessions(self) -> list[tuple[int, int]]:
        """The runners of jobs: their pids and their start times, for processes.end_all."""
        if not (self.folder / "slurm.db").exists():
            return []
        with self._store() as store:
            return [(job.runner, job.runner_began) for job in store.jobs("runner > 0 AND ended = 0")]

    @contextmanager
    def _store(self) -> Iterator[Store]:
        store = Store(str(self.folder))
        try:
            yield store
        finally:
            store.close()
