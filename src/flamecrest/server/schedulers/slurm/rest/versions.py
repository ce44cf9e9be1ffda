"""The versions of slurmrestd's API that this adapter speaks, and how they differ.

Versions come and go with Slurm: 22.05 has v0.0.36 to 38, 24.11 v0.0.40 to 42, 26.05 v0.0.42 to 45. Paths and most
fields are the same; the table has the differences.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flamecrest.server.schedulers.capabilities import CHANGES, JOB_FIELDS, Capabilities, Operation

OLDEST, NEWEST = 38, 45

_PATHS: Final = re.compile(rb"/slurm\\?/v0\.0\.([0-9]{1,3})\\?/")  # Slurm writes / as \/
_NAME: Final = re.compile(r"v?0\.0\.([0-9]{1,3})")
_NO_REST: Final = frozenset({"native"})  # options of sbatch
_OPERATIONS: Final = frozenset(
    {
        Operation.HOLD, Operation.RELEASE, Operation.SIGNAL, Operation.CHANGE, Operation.FIND,
        Operation.RESERVATIONS, Operation.ACCOUNTS,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ApiVersion:
    """One version of the API. `number` is the last part of its name: 42 of v0.0.42."""

    number: int

    def __str__(self) -> str:
        return f"v0.0.{self.number}"

    @property
    def has_structures(self) -> bool:
        """Whether numbers are written as `{set, infinite, number}`, and the environment as a list."""
        return self.number >= 39

    @property
    def has_many(self) -> bool:
        """Whether `DELETE /jobs/` names several jobs and tells the outcome of each."""
        return self.number >= 40

    @property
    def updates_arrays(self) -> bool:
        """Whether an update of an array or of its elements changes all that it names, and not one record of them."""
        return self.number < 40

    @property
    def has_user_filter(self) -> bool:
        """Whether the accounting is asked for the jobs of one user."""
        return self.number >= 39

    def jobs_query(self, ids: Sequence[str]) -> list[tuple[str, str]] | None:
        """The parameters that ask the accounting for several jobs at once; None where it is not known to take them.

        22.05 takes the last of several parameters, 24.11 and later take no commas.
        """
        if self.number == OLDEST:
            return [("step", ",".join(ids))]
        return [("step", one) for one in ids] if self.number >= 42 else None

    @property
    def has_requeue(self) -> bool:
        """Whether a job can be requeued; older versions have no such path, or one that fails."""
        return self.number >= 45

    @property
    def capabilities(self) -> Capabilities:
        """What the adapter can do in this version."""
        missing = set(_NO_REST)
        if not self.has_structures:
            missing |= {"resources.gpus", "resources.gpusPerNode", "resources.gpuType"}
        more = {Operation.REQUEUE} if self.has_requeue else set()
        changes = CHANGES if self.has_structures else CHANGES - {"name"}  # which is ignored without a word
        return Capabilities(JOB_FIELDS - missing, changes, _OPERATIONS | more)


def parse_version(name: str) -> ApiVersion | None:
    """The version of this name (`0.0.42`, `v0.0.42`); None if the adapter does not speak it."""
    found = _NAME.fullmatch(name.strip())
    return ApiVersion(int(found[1])) if found is not None and OLDEST <= int(found[1]) <= NEWEST else None


def newest_offered(openapi: bytes) -> ApiVersion | None:
    """The newest version that both sides know, from the paths in slurmrestd's OpenAPI document."""
    offered = {int(found) for found in _PATHS.findall(openapi)}
    return max(
        (ApiVersion(one) for one in offered if OLDEST <= one <= NEWEST), key=lambda one: one.number, default=None
    )
