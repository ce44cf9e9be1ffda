"""Start uploads and downloads by a job that uses magic-wormhole."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from flamecrest.server.transfer.jobs.records import forget, job_record
from flamecrest.server.transfer.jobs.script import TransferJob
from flamecrest.server.transfer.node_paths import check_source, check_target
from flamecrest.server.transfer.port import StartedTransfer, SubmittedTransfer, WormholeDirectives
from flamecrest.server.transfer.programs.script import program_environment, python_script

from .codes import check_code, new_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.port import Session
    from flamecrest.server.transfer.jobs.submission import TransferSubmitter
    from flamecrest.server.transfer.port import TransferRequest
    from flamecrest.server.transfer.records.record import Record

PROGRAM: Final = ("replacing", "options", "running", "progress", "environment", "wormhole_job")


@dataclass(frozen=True, slots=True)
class WormholeOptions:
    """The servers of magic-wormhole (None: its public ones), and where the job finds the package."""

    mailbox: str | None  # ws://HOST:PORT/v1
    relay: str | None  # tcp:HOST:PORT
    wait_timeout: float  # seconds in which the other side must come
    python: str | None
    install: bool  # whether the job may install the package for itself
    index: str | None = field(repr=False)  # the package index; may contain a password


class WormholeTransfers:
    """The TransferMethod port over jobs that use magic-wormhole.

    Paths are checked before a job is submitted, and again by the job: a node may see another file system. `remember`
    keeps the record of a job; nobody waits for it.
    """

    def __init__(
        self,
        session: Session,
        submitter: TransferSubmitter,
        options: WormholeOptions,
        remember: Callable[[Record], str] = forget,
    ) -> None:
        self._remember = remember
        self._session = session
        self._submitter = submitter
        self._options = options

    async def upload(
        self, path: str, deadline: Deadline, *, account: str | None, request: TransferRequest
    ) -> StartedTransfer:
        code = check_code(request.wormhole_code)
        target = await check_target(self._session, path, deadline)
        job = await self._submit("upload", path, code, deadline, account)
        record = job_record("wormhole", "upload", path, job, account, target=target)
        return StartedTransfer(replace(job, transfer=self._remember(record)), WormholeDirectives(code))

    async def download(
        self,
        path: str,
        deadline: Deadline,
        *,
        account: str | None,
        request: TransferRequest,  # noqa: ARG002 -- the gateway chooses the code
    ) -> StartedTransfer:
        size = await check_source(self._session, path, deadline)
        code = new_code()
        job = await self._submit("download", path, code, deadline, account)
        record = job_record("wormhole", "download", path, job, account, size=size)
        return StartedTransfer(replace(job, transfer=self._remember(record)), WormholeDirectives(code))

    async def _submit(
        self, verb: str, path: str, code: str, deadline: Deadline, account: str | None
    ) -> SubmittedTransfer:
        given = self._options
        variables = {
            "receive": verb == "upload",
            "code": code,
            "mailbox": given.mailbox,
            "relay": given.relay,
            "wait_timeout": given.wait_timeout,
            "python": given.python,
            "install": given.install,
            "index": given.index,
        }
        job = TransferJob(
            "IngressFileTransfer" if verb == "upload" else "OutgressFileTransfer",  # FirecREST's names
            await asyncio.to_thread(python_script, given.python, *PROGRAM),
            f"{verb.capitalize()} job of magic-wormhole",
            f"File was successfully {verb}ed.",
            f"Unable to {verb} the file",
            env=program_environment(path, variables),
        )
        return await self._submitter.submit(job, deadline, account=account)
