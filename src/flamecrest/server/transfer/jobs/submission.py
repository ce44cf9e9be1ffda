"""Submits transfer jobs of one user: their accounts, directives, working directory and logs. It uses any Submitter."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Field, Invalid
from flamecrest.server.schedulers.job_lookup import RECOVERABLE
from flamecrest.server.schedulers.values import JobSpec
from flamecrest.server.transfer.port import SubmittedTransfer

from .log_ids import LogIds
from .script import job_script

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.port import Submitter

    from .script import TransferJob

_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_.\-+]{1,64}")
_PLACE: Final = "{account}"
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


class TransferSubmitter:
    """Submits a TransferJob to any Submitter.

    `directives` are lines such as `#SBATCH --account={account}` from the settings. The working directory of the
    jobs, which gets their logs, is the user's folder in `work_root`; `make_folder` makes it if there is none.
    `log_ids` are shared by the users of a cluster.
    """

    def __init__(
        self,
        scheduler: Submitter,
        username: str,
        *,
        directives: Sequence[str] = (),
        work_root: str | None = None,
        log_ids: LogIds | None = None,
        make_folder: Callable[[str, Deadline], Awaitable[None]] | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._username = username
        self._directives = "\n".join(directives)
        self._work_root = work_root
        self._log_ids = log_ids or LogIds()
        self._make_folder = make_folder

    async def submit(
        self, job: TransferJob, deadline: Deadline, *, account: str | None, key: str | None = None, new: bool = False
    ) -> SubmittedTransfer:
        """Submit the job, charged to `account`; with an idempotency `key` once, which may be `new`.

        Raises Invalid for an account that is missing or cannot be one, and if no folder for the logs is configured;
        what Submitter.submit and `make_folder` raise.
        """
        root, directives, charge = self._ready(account)
        folder = f"{root.rstrip('/')}/{self._username}"
        unique = self._log_ids.take(self._username, job, account, key)
        output = f"{folder}/.f7t_file_handling_job_{unique}.log"
        error = f"{folder}/.f7t_file_handling_job_error_{unique}.log"
        spec = JobSpec(
            name=job.name,
            script=job_script(directives, folder, job),
            account=charge,
            working_directory=folder,
            standard_output=output,
            standard_error=error,
            env={"PATH": _PATH, **job.env},
            time_limit=job.time_limit,
            idempotency_key=key,
            new_key=new,
        )
        if self._make_folder is not None:
            await self._make_folder(folder, deadline)
        try:
            job_id = await self._scheduler.submit(spec, deadline)
        except (*RECOVERABLE, asyncio.CancelledError):
            if key is None:
                self._log_ids.failed(self._username, job, account, unique)
            raise
        return SubmittedTransfer(job_id, folder, output, error)

    def check(self, account: str | None) -> None:
        """Raise Invalid if `submit` would, with this account: for a job that is submitted later."""
        self._ready(account)

    def _ready(self, account: str | None) -> tuple[str, str, str | None]:
        """The folder that has the users' folders, and what `_charged` returns."""
        if self._work_root is None:
            raise Invalid("Transfer jobs need a file system with default_work_dir. This cluster has none.")
        return self._work_root, *self._charged(account)

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
