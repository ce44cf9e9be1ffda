"""File operations as batch jobs: their scripts and their logs; knows batch systems by the Scheduler port only.

What clients depend on: the output log holds `Files were successfully …` when, and only when, all of it was
done, and the job's exit status is that of the program that failed.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from flamecrest.server.errors import Field, Invalid
from flamecrest.server.files.remote.commands import archive
from flamecrest.server.files.remote.commands.archive import Script
from flamecrest.server.files.values import CompressOptions
from flamecrest.server.schedulers.values import JobSpec

from .port import SubmittedTransfer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.values import Compression
    from flamecrest.server.schedulers.port import Scheduler

_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_.\-+]{1,64}")
_PLACE: Final = "{account}"
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"

# A job's logs stay for a month; a later job of the same user removes them, and nothing else.
_LOG: Final = r".*/\.f7t_file_handling_job_(error_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.log"
_OLD_LOGS: Final = f"-maxdepth 1 -regextype posix-extended -regex '{_LOG}' -type f -user \"$UID\" -mtime +30"

# As coreutils has it: into the target when that is a folder. Nothing asks questions, as there is no terminal.
_MOVE: Final = 'mv -- "$1" "$2"\n'
_COPY: Final = 'cp --recursive --force --preserve=all "$3" -- "$1" "$2"\n'
_DELETE: Final = 'rm -r -- "$1"\n'


class SchedulerTransfers:
    """The TransferJobs port over any Scheduler.

    `directives` are lines such as `#SBATCH --account={account}`, from the operator; `work_root` is the file
    system whose folder of the user's name is the jobs' working directory and holds their logs.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        username: str,
        *,
        directives: Sequence[str] = (),
        work_root: str | None = None,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        self._scheduler = scheduler
        self._username = username
        self._directives = "\n".join(directives)
        self._work_root = work_root
        self._new_id = new_id

    async def mv(self, source: str, target: str, deadline: Deadline, *, account: str | None) -> SubmittedTransfer:
        """Move or rename."""
        return await self._submit("move", "moved", Script(_MOVE, (source, target)), account, deadline)

    async def cp(
        self, source: str, target: str, deadline: Deadline, *, account: str | None, dereference: bool
    ) -> SubmittedTransfer:
        """Copy a file or a tree, with modes, times and what else the user may keep."""
        links = "--dereference" if dereference else "--no-dereference"
        return await self._submit("copy", "copied", Script(_COPY, (source, target, links)), account, deadline)

    async def rm(self, path: str, deadline: Deadline, *, account: str | None) -> SubmittedTransfer:
        """Remove a file or a tree; one that is not there is a failure."""
        return await self._submit("delete", "deleted", Script(_DELETE, (path,)), account, deadline)

    async def compress(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        *,
        account: str | None,
        compression: Compression,
        pattern: str | None,
        dereference: bool,
    ) -> SubmittedTransfer:
        """Archive a file or a tree."""
        script = archive.compress(source, target, CompressOptions(compression, pattern, dereference))
        return await self._submit("compress", "compressed", script, account, deadline)

    async def extract(
        self, source: str, target: str, deadline: Deadline, *, account: str | None, compression: Compression
    ) -> SubmittedTransfer:
        """Unpack an archive."""
        script = archive.extract(source, target, compression=compression)
        return await self._submit("extract", "extracted", script, account, deadline)

    async def _submit(
        self, verb: str, done: str, script: Script, account: str | None, deadline: Deadline
    ) -> SubmittedTransfer:
        if self._work_root is None:
            raise Invalid("Transfer jobs need a file system that is marked default_work_dir, and none is")
        directives, charge = self._charged(account)
        folder = f"{self._work_root.rstrip('/')}/{self._username}"
        unique = self._new_id()
        output = f"{folder}/.f7t_file_handling_job_{unique}.log"
        error = f"{folder}/.f7t_file_handling_job_error_{unique}.log"
        spec = JobSpec(
            name=f"{verb.capitalize()}Files",
            script=job_script(directives, folder, verb, done, script),
            account=charge,
            working_directory=folder,
            standard_input="/dev/null",
            standard_output=output,
            standard_error=error,
            env={"PATH": _PATH},
        )
        job_id = await self._scheduler.submit(spec, deadline)
        return SubmittedTransfer(job_id, folder, output, error)

    def _charged(self, account: str | None) -> tuple[str, str | None]:
        """The directives with the account in its place, and the account if they have no place for it."""
        if not account:
            if _PLACE in self._directives:
                raise Invalid(
                    "Account parameter is required on this system.",
                    fields=(Field("body", "account", "Field required"),),
                )
            return self._directives, None
        if not _ACCOUNT.fullmatch(account):
            raise Invalid(
                "`account` must be 1 to 64 letters, digits or any of `_ . - +`",
                fields=(Field("body", "account", "Not an account name"),),
            )
        if _PLACE in self._directives:
            return self._directives.replace(_PLACE, account), None
        return self._directives, account


def job_script(directives: str, folder: str, verb: str, done: str, script: Script) -> str:
    """The text of a job that runs `script`, says how it went, and removes the logs of a month ago from `folder`.

    Standard output belongs to us alone: a program could print a name, and a name can read like our success.
    """
    return f"""#!/bin/bash
{directives}

set -u
export LC_ALL=C
work() (
{script.text})
printf '%s {verb.capitalize()} files job (id: %s)\\n' "$(date -u)" "${{SLURM_JOB_ID:-${{PBS_JOBID:-unknown}}}}"
work {shell_words(*script.arguments)} </dev/null >&2
status=$?
if [ "$status" -eq 0 ]; then
    printf '%s Files were successfully {done}.\\n' "$(date -u)"
else
    printf '%s Unable to {verb} files, exit status %s\\n' "$(date -u)" "$status" >&2
fi
timeout 60 find {shell_words(folder + "/")} {_OLD_LOGS} -delete </dev/null >/dev/null 2>&1
exit "$status"
"""


def shell_words(*values: str) -> str:
    """The values as words of a bash script: one line of plain ASCII, whatever bytes they stand for.

    A line break inside quotes would start a line that a batch system may take for one of its directives, and
    schedulers that take scripts as JSON have no way to carry bytes that are not UTF-8.
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
