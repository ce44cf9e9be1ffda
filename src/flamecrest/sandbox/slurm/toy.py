"""ToySlurm: sets the toy up in a folder, turns its faults on and off, and ends all its processes.

It is what the rest of the sandbox sees; the executables do not know it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flamecrest.sandbox import executables

from . import machine
from .commands import program
from .store import SETTINGS, Job, Store

if TYPE_CHECKING:
    from flamecrest.sandbox.users import People

PROGRAMS = ("sbatch", "squeue", "sacct", "scontrol", "sinfo", "sacctmgr", "scancel", "srun")


class ToySlurm:
    """A Slurm for the people of a sandbox; its folder is `<root>/slurm`.

    `accounts` says who may charge what, the default first; others charge `test`, fireuser `other` too.
    """

    def __init__(self, people: People, *, accounts: Mapping[str, Sequence[str]] | None = None) -> None:
        self.folder = people.root / "slurm"
        self.bin_dir = people.root / "slurm" / "bin"
        self._people = people
        self._accounts = {"fireuser": machine.ACCOUNTS, **(accounts or {})}

    def start(self, **settings: float) -> None:
        """Write the executables and the state, and set what differs from the defaults (store.SETTINGS)."""
        self.bin_dir.mkdir(parents=True, exist_ok=True)
        for name in PROGRAMS:
            executables.write(self.bin_dir / name, program.__name__, name, str(self.folder))
        with self._store() as store:
            store.create()
            for person in self._people:
                accounts = self._accounts.get(person.name, ("test",))
                store.put_person(
                    name=person.name,
                    uid=person.uid,
                    home=str(person.home),
                    account=accounts[0] if accounts else "",
                    accounts=",".join(accounts),
                )
        self.set(**{"began": time.time(), **settings})

    def set(self, **settings: float) -> None:
        """Change settings and faults (store.SETTINGS); they hold for every command from now on."""
        with self._store() as store:
            for name, value in settings.items():
                store.set(name, value)

    def heal(self) -> None:
        """End every fault."""
        faults = ("slow", "history_lag", "controller_down", "controller_timeout", "records_down", "lost_answers")
        self.set(**{name: SETTINGS[name] for name in faults})

    def jobs(self) -> list[Job]:
        """All jobs there ever were."""
        with self._store() as store:
            return store.jobs()

    def sessions(self) -> list[tuple[int, int]]:
        """The processes that run jobs, each with when it began: what has to be ended with the sandbox."""
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
