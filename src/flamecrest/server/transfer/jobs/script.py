"""The scripts of transfer jobs: bash, with the log lines that clients look for.

Clients depend on this: the output log contains `Files were successfully …` if and only if all work was done, and the
exit status of the job is that of the program that failed.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flamecrest.server.files.remote.commands.archive import Script

# Logs are kept for a month. A later job of the same user removes them, and nothing else.
_LOG: Final = r".*/\.f7t_file_handling_job_(error_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.log"
_OLD_LOGS: Final = f"-maxdepth 1 -regextype posix-extended -regex '{_LOG}' -type f -user \"$UID\" -mtime +30"

STARTED_AGAIN: Final = 75  # exit status of a job that was requeued (EX_TEMPFAIL)
_AGAIN: Final = "Look at what its first run has left, then repeat the request."


@dataclass(frozen=True, slots=True)
class TransferJob:
    """A job to submit: its work in bash, and the lines of its logs.

    `started` is logged with the job's id, then `done` to the output log or `failed`, with the exit status, to the
    error log; they are constants in plain ASCII without quotes. The script and its arguments can be read on the
    cluster, by its administrators at least. Secrets belong in `env`, which appears in no script and no process list;
    the script must not put them in arguments of other programs either.
    """

    name: str  # the job's name: UploadFiles
    script: Script
    started: str  # Upload files job
    done: str  # Files were successfully uploaded.
    failed: str  # Unable to upload files
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    time_limit: int | None = None  # seconds; None: the directives or the scheduler decide

    @classmethod
    def of(cls, verb: str, done: str, script: Script, env: Mapping[str, str] = MappingProxyType({})) -> TransferJob:
        """A job that is named after its verb (`move`) and its participle (`moved`)."""
        return cls(
            f"{verb.capitalize()}Files",
            script,
            f"{verb.capitalize()} files job",
            f"Files were successfully {done}.",
            f"Unable to {verb} files",
            env,
        )


def job_script(directives: str, folder: str, job: TransferJob) -> str:
    """The text of a job that runs its script, logs the result, and removes logs older than a month from `folder`.

    The programs' output goes to standard error: a file name that they print could read like the line of success.
    A job that Slurm has requeued does nothing: it would find the target of its first run, and work inside of it.
    """
    return f"""#!/bin/bash
{directives}

set -u
export LC_ALL=C
work() (
{job.script.text})
id=${{SLURM_JOB_ID:-${{PBS_JOBID:-${{FLAMECREST_JOB_ID:-unknown}}}}}}
printf '%s {job.started} (id: %s)\\n' "$(date -u)" "$id"
if [ "${{SLURM_RESTART_COUNT:-0}}" -gt 0 ]; then
    printf '%s {job.failed}: the scheduler has started the job again. {_AGAIN}\n' "$(date -u)" >&2
    exit {STARTED_AGAIN}
fi
work {shell_words(*job.script.arguments)} </dev/null >&2
status=$?
if [ "$status" -eq 0 ]; then
    printf '%s {job.done}\\n' "$(date -u)"
else
    printf '%s {job.failed}, exit status %s\\n' "$(date -u)" "$status" >&2
fi
timeout 60 find {shell_words(folder + "/")} {_OLD_LOGS} -delete </dev/null >/dev/null 2>&1
exit "$status"
"""


def shell_words(*values: str) -> str:
    """The values, quoted for bash, on one line of ASCII.

    A line break in quotes would begin a line that a batch system may take as a directive. Scripts that are sent as
    JSON cannot contain bytes that are not UTF-8.
    """
    return " ".join(_word(value) for value in values)


def _word(value: str) -> str:
    if value.isascii() and value.isprintable():
        return shlex.quote(value)
    plain = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}"
        for byte in value.encode("utf-8", "surrogateescape")
    )
    return "$'" + "".join(plain) + "'"
