"""`#SBATCH` lines that no option of sbatch can undo: a request that contradicts them is refused. No I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from flamecrest.server.schedulers.job_environment import invalid_field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flamecrest.server.schedulers.values import JobSpec

_DIRECTIVE: Final = re.compile(r"#SBATCH\s(.*)")
_HOLD: Final = re.compile(r"(?:^|\s)(?:--hold|-[sQvOkH]*H[A-Za-z]*)(?=\s|$)")
_EXCLUSIVE: Final = re.compile(r"(?:^|\s)--exclus\w*(?=[\s=]|$)")


def check_switches(spec: JobSpec) -> None:
    """Raise Invalid if the request says false where the script's lines say true: sbatch has no option against them.

    A script on the cluster is not read.
    """
    for options in _directives(spec.script or ""):
        if spec.hold is False and _HOLD.search(options):
            raise invalid_field("hold", "is false, but the script contains `#SBATCH --hold`, which wins with sbatch")
        if spec.resources.exclusive is False and _EXCLUSIVE.search(options):
            message = "is false, but the script contains `#SBATCH --exclusive`, which wins with sbatch"
            raise invalid_field("resources.exclusive", message)


def _directives(script: str) -> Iterator[str]:
    """The options of each directive; sbatch stops at the first line that is neither a comment nor empty."""
    for line in script.splitlines():
        if line.strip() and not line.startswith("#"):
            return
        if (found := _DIRECTIVE.match(line)) is not None:
            yield found[1].partition(" #")[0]
