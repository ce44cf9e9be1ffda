"""The paths of a job's input and output files, with filename patterns replaced."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .store import StoredJob

_SHOWN = "jAaux"
NO_ELEMENT = 4294967294  # Slurm's task id of array tasks that have not started


def output(job: StoredJob) -> str:
    """The absolute path of the standard output."""
    default = "slurm-%A_%a.out" if job.array_job is not None else "slurm-%j.out"
    return _absolute(job, job.stdout or default)


def errors(job: StoredJob) -> str:
    """The absolute path of the standard error; by default that of the output."""
    return _absolute(job, job.stderr) if job.stderr else output(job)


def source(job: StoredJob) -> str:
    """The absolute path of the standard input."""
    return _absolute(job, job.stdin) if job.stdin else "/dev/null"


def shown(job: StoredJob) -> tuple[str, str, str]:
    """Output, errors and input as scontrol 22.05 prints them: only plain %j, %A, %a, %u and %x are replaced."""
    default = "slurm-%A_%a.out" if job.array_job is not None else "slurm-%j.out"
    patterns = (job.stdout or default, job.stderr or job.stdout or default, job.stdin or "/dev/null")
    values = _values(job)
    found = [_replaced(pattern, values) for pattern in patterns]
    stdout, stderr, stdin = (path if path.startswith("/") else f"{job.workdir.rstrip('/')}/{path}" for path in found)
    return stdout, stderr, stdin


def _replaced(pattern: str, values: dict[str, str]) -> str:
    done, *rest = pattern.split("%")
    for part in rest:
        done += values[part[0]] + part[1:] if part[:1] and part[0] in _SHOWN else f"%{part}"
    return done


def listed_output(job: StoredJob) -> str:
    """The output as squeue 22.05 prints it: as it was given; by default the name of a job that is no array."""
    return _below(job, job.stdout or f"slurm-{job.id}.out")


def listed_errors(job: StoredJob) -> str:
    """The same for the errors."""
    return _below(job, job.stderr) if job.stderr else listed_output(job)


def _absolute(job: StoredJob, pattern: str) -> str:
    return _below(job, _expand(job, pattern))


def _below(job: StoredJob, path: str) -> str:
    return path if path.startswith("/") else f"{job.workdir.rstrip('/')}/{path}"


def _values(job: StoredJob) -> dict[str, str]:
    return {
        "A": str(job.array_job if job.array_job is not None else job.id),
        "a": str(NO_ELEMENT if job.array_task is None else job.array_task),
        "j": str(job.id),
        "J": str(job.id),
        "x": job.name,
        "u": job.user,
        "N": os.uname().nodename.partition(".")[0],
        "n": "0",
        "t": "0",
        "s": "batch",
    }


def _expand(job: StoredJob, pattern: str) -> str:
    """Replace %j, %5a and so on. A backslash disables all replacements, and is removed."""
    if "\\" in pattern:
        import re  # noqa: PLC0415 - takes as long to import as squeue runs

        return re.sub(r"\\(.?)", r"\1", pattern)
    values = _values(job)
    done, rest = "", pattern
    while "%" in rest:
        before, _, rest = rest.partition("%")
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        code, rest = rest[len(digits) : len(digits) + 1], rest[len(digits) + 1 :]
        value = f"{digits}%" if code == "%" else values.get(code, f"%{digits}{code}")
        numeric = code in values and code not in "Nsux"
        done += before + (value.zfill(min(int(digits), 10)) if digits and numeric else value)
    return done + rest
