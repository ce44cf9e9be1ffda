"""The table in docs/schedulers.md, as the adapters declare it; printed by `python -m` with this module's name."""

from __future__ import annotations

from flamecrest.server.schedulers.capabilities import CHANGES, JOB_FIELDS, Capabilities, Operation
from flamecrest.server.schedulers.local.submission import CAPABILITIES as LOCAL
from flamecrest.server.schedulers.pbs.submission import CAPABILITIES as PBS
from flamecrest.server.schedulers.slurm.rest.versions import ApiVersion
from flamecrest.server.schedulers.slurm.submission import CAPABILITIES as SLURM

SLURMRESTD = [ApiVersion(number).capabilities for number in range(38, 46)]
HIDDEN = {"find"}  # the gateway's own


def table() -> str:
    """The rows: a field, a change or an operation, and who has it."""
    lines = ["| | Slurm by commands, hybrid | slurmrestd alone | OpenPBS | local |", "|---|---|---|---|---|"]
    for title, names, kind in (
        ("fields of a job", JOB_FIELDS, "fields"),
        ("fields that `PATCH` changes", CHANGES, "changes"),
        ("operations", {one.value for one in Operation} - HIDDEN, "operations"),
    ):
        lines.append(f"| **{title}** | | | | |")
        for name in sorted(names):
            some = [_has(one, kind, name) for one in SLURMRESTD]
            rest = "yes" if all(some) else "newer versions" if any(some) else "no"
            others = ["yes" if _has(one, kind, name) else "no" for one in (SLURM, PBS, LOCAL)]
            lines.append(f"| `{name}` | {others[0]} | {rest} | {others[1]} | {others[2]} |")
    return "\n".join(lines) + "\n"


def _has(one: Capabilities, kind: str, name: str) -> bool:
    return name in getattr(one, kind)


if __name__ == "__main__":
    print(table(), end="")
