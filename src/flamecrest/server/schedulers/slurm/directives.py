"""`#SBATCH` lines that no option of sbatch can undo: a request that contradicts them is refused. No I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from flamecrest.server.schedulers.job_environment import invalid_field
from flamecrest.server.schedulers.script_head import directive_lines

if TYPE_CHECKING:
    from flamecrest.server.schedulers.values import JobSpec

# No part can match the same letters as another one: scripts may be hostile.
_HOLD: Final = re.compile(r"(?:^|\s)(?:--hold|-(?=[sQvOk]*H)[A-Za-z]++)(?=\s|$)")
_EXCLUSIVE: Final = re.compile(r"(?:^|\s)--exclus\w*(?=[\s=]|$)")


def check_switches(spec: JobSpec) -> None:
    """Raise Invalid if the request says false where the script's lines say true: sbatch has no option against them.

    A script on the cluster is not read.
    """
    for _, line in directive_lines(spec.script or "", "SBATCH"):
        options = line.partition(" #")[0]
        if spec.hold is False and _HOLD.search(options):
            raise invalid_field("hold", "is false, but the script contains `#SBATCH --hold`, which wins with sbatch")
        if spec.resources.exclusive is False and _EXCLUSIVE.search(options):
            message = "is false, but the script contains `#SBATCH --exclusive`, which wins with sbatch"
            raise invalid_field("resources.exclusive", message)
