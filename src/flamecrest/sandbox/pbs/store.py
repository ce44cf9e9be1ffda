"""The state of the toy PBS: jobs by number, in a JSON file that one process changes at a time."""

# pathlib takes half as long to import as all other modules together.
# ruff: noqa: PTH105, PTH110, PTH118, PTH123
from __future__ import annotations

import fcntl
import json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SERVER = "pbs"
QUEUES = {"workq": ("True", "True"), "express": ("True", "True"), "closed": ("False", "False")}  # enabled, started
NODE = "node1"
CPUS = 8


class RefusedError(Exception):
    """Ends the program with this message and this exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class State:
    """The jobs, locked: `with State(folder) as state`. Changes are written at the end of the block.

    `jobs` maps an id (`12.pbs`, `13[].pbs`, `13[1].pbs`) to the attributes that qstat prints; names that begin with
    `_` are the toy's own.
    """

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "state.json")

    def __enter__(self) -> State:
        self._lock = open(f"{self._path}.lock", "w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        found: dict[str, Any] = {"last": 0, "jobs": {}}
        if os.path.exists(self._path):
            with open(self._path) as file:
                found = json.load(file)
        self.last: int = found["last"]
        self.jobs: dict[str, dict[str, Any]] = found["jobs"]
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            with open(f"{self._path}.new", "w") as file:
                json.dump({"last": self.last, "jobs": self.jobs}, file)
            os.replace(f"{self._path}.new", self._path)
        self._lock.close()

    def find(self, text: str) -> list[str]:
        """The ids of the jobs that an id means. Raises RefusedError."""
        whole = text if "." in text else f"{text}.{SERVER}"
        if not whole[:1].isdigit():
            raise RefusedError(f"illegally formed job identifier: {text}", 1)
        if whole not in self.jobs:
            raise RefusedError(f"Unknown Job Id {whole}", 153)
        return [whole]

    def elements(self, job_id: str) -> list[str]:
        """The elements of an array; the job itself if it is none."""
        number, _, rest = job_id.partition("[")
        if not rest.startswith("]"):
            return [job_id]
        return [one for one in self.jobs if one.startswith(f"{number}[") and one != job_id]

    def startable(self) -> Iterator[str]:
        """The jobs that nothing holds."""
        for job_id, job in self.jobs.items():
            waiting = job["job_state"] in "QW" and job["Hold_Types"] == "n" and "array" not in job
            if waiting and job.get("_begin", 0) <= time.time() and self._released(job):
                yield job_id

    def _released(self, job: dict[str, Any]) -> bool:
        for kind, parent in job.get("_depend", ()):
            other = self.jobs.get(parent, {})
            ended, status = other.get("job_state") == "F", other.get("Exit_status")
            wanted = {"afterok": status == 0, "afternotok": status not in {None, 0}, "afterany": True}
            if not ended or not wanted.get(kind, True):
                return False
        return True


def ctime(moment: float) -> str:
    """A time as PBS prints it: in the time zone of the program."""
    return time.ctime(moment)
