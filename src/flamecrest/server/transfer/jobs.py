"""The Transfers port over batch jobs: their scripts and logs. It uses any Scheduler.

Clients depend on this: the output log contains `Files were successfully …` if and only if all work was done, and the
exit status of the job is that of the program that failed.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final, Never
from uuid import uuid4

from flamecrest.server.errors import Field, Invalid
from flamecrest.server.files.remote.commands import archive
from flamecrest.server.files.remote.commands.archive import Script
from flamecrest.server.files.remote.commands.copying import copy_script
from flamecrest.server.schedulers.values import JobSpec

from .port import SubmittedTransfer, TransferRequest, method_unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.values import Compression, CompressOptions
    from flamecrest.server.schedulers.port import Scheduler

_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_.\-+]{1,64}")
_PLACE: Final = "{account}"
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"

# Logs are kept for a month. A later job of the same user removes them, and nothing else.
_LOG: Final = r".*/\.f7t_file_handling_job_(error_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.log"
_OLD_LOGS: Final = f"-maxdepth 1 -regextype posix-extended -regex '{_LOG}' -type f -user \"$UID\" -mtime +30"

# Like mv of coreutils: into the target if it is a folder. Without a terminal the programs do not prompt.
_MOVE: Final = 'mv -- "$1" "$2"\n'
# rm(1) would empty the folder behind `link/`.
_DELETE: Final = r"""path=$1
while [ "$path" != / ] && [ "${path%/}" != "$path" ]; do path=${path%/}; done
if [ "$path" != "$1" ] && [ -L "$path" ]; then
    printf "rm: cannot remove '%s': Not a directory\n" "$1"
    exit 1
fi
rm -r -- "$path"
"""


class SchedulerTransfers:
    """The Transfers port over any Scheduler. Uploads and downloads are refused.

    `directives` are lines such as `#SBATCH --account={account}` from the settings. The working directory of the
    jobs, which gets their logs, is the user's folder in `work_root`. `cluster` and `configured_methods` are named
    in the error about a missing transfer method.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        username: str,
        *,
        cluster: str,
        directives: Sequence[str] = (),
        work_root: str | None = None,
        configured_methods: Sequence[str] = (),
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        self._scheduler = scheduler
        self._username = username
        self._directives = "\n".join(directives)
        self._work_root = work_root
        self._cluster = cluster
        self._configured_methods = configured_methods
        self._new_id = new_id

    async def mv(self, source: str, target: str, deadline: Deadline, *, account: str | None) -> SubmittedTransfer:
        """Move or rename."""
        return await self._submit("move", "moved", Script(_MOVE, (source, target)), account, deadline)

    async def cp(
        self, source: str, target: str, deadline: Deadline, *, account: str | None, dereference: bool
    ) -> SubmittedTransfer:
        """Copy a file or a tree, with modes, times and all other attributes that the user may set."""
        script = copy_script(source, target, overwrite=True, dereference=dereference, into=True)
        return await self._submit("copy", "copied", script, account, deadline)

    async def rm(self, path: str, deadline: Deadline, *, account: str | None) -> SubmittedTransfer:
        """Remove a file or a tree. The job fails if there is none."""
        return await self._submit("delete", "deleted", Script(_DELETE, (path,)), account, deadline)

    async def compress(
        self, source: str, target: str, deadline: Deadline, *, account: str | None, options: CompressOptions
    ) -> SubmittedTransfer:
        """Archive a file or a tree."""
        script = archive.compress(source, target, options)
        return await self._submit("compress", "compressed", script, account, deadline)

    async def extract(
        self, source: str, target: str, deadline: Deadline, *, account: str | None, compression: Compression
    ) -> SubmittedTransfer:
        """Unpack an archive."""
        script = archive.extract(source, target, compression=compression)
        return await self._submit("extract", "extracted", script, account, deadline)

    async def upload(self, path: str, deadline: Deadline, *, account: str | None, request: TransferRequest) -> Never:  # noqa: ARG002
        """Refuse: no transfer method is built yet."""
        raise method_unavailable(request.method, self._cluster, self._configured_methods)

    async def download(self, path: str, deadline: Deadline, *, account: str | None, request: TransferRequest) -> Never:  # noqa: ARG002
        """Refuse: no transfer method is built yet."""
        raise method_unavailable(request.method, self._cluster, self._configured_methods)

    async def _submit(
        self, verb: str, done: str, script: Script, account: str | None, deadline: Deadline
    ) -> SubmittedTransfer:
        if self._work_root is None:
            raise Invalid("Transfer jobs need a file system with default_work_dir. This cluster has none.")
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
        """The directives with the account filled in, and the account for the job if they have no place for it."""
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
    """The text of a job that runs `script`, logs the result, and removes logs older than a month from `folder`.

    The programs' output goes to standard error: a file name that they print could read like the line of success.
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
