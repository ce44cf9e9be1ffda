"""Start uploads and downloads by a job that listens for the client."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from flamecrest.server.transfer.jobs.records import forget, job_record
from flamecrest.server.transfer.jobs.script import TransferJob
from flamecrest.server.transfer.node_paths import check_source, check_target
from flamecrest.server.transfer.port import StartedTransfer, StreamerDirectives
from flamecrest.server.transfer.programs.script import program_environment, python_script

from .certificate import new_certificate
from .coordinates import Coordinates
from .starting import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.port import Session
    from flamecrest.server.transfer.jobs.submission import TransferSubmitter
    from flamecrest.server.transfer.port import TransferRequest
    from flamecrest.server.transfer.records.record import Record

_SERVER: Final = ("streams", "websocket", "requests", "replacing", "options", "running", "progress", "server")
RECEIVE: Final = (*_SERVER, "receiving")
SEND: Final = (*_SERVER, "sending")


@dataclass(frozen=True, slots=True)
class StreamerOptions:
    """Where the jobs listen and for how long. Times are in seconds, sizes in bytes."""

    host: str | None  # None: all addresses of the node
    ports: tuple[int, int]
    addresses: Sequence[str]  # at which clients reach the node
    wait_timeout: float
    retry_timeout: float
    inbound_limit: int | None
    require_tls: bool
    python: str | None


class StreamerTransfers:
    """The TransferMethod port over jobs that listen on their node.

    Paths are checked before a job is submitted, and again by the job: a node may see another file system. `remember`
    keeps the record of a job; nobody waits for it.
    """

    def __init__(
        self,
        session: Session,
        submitter: TransferSubmitter,
        options: StreamerOptions,
        remember: Callable[[Record], str] = forget,
    ) -> None:
        self._remember = remember
        self._session = session
        self._submitter = submitter
        self._options = options

    async def upload(
        self,
        path: str,
        deadline: Deadline,
        *,
        account: str | None,
        request: TransferRequest,  # noqa: ARG002 -- it has no parameters
    ) -> StartedTransfer:
        target = await check_target(self._session, path, deadline)
        started = await self._start("upload", path, deadline, account)
        record = job_record("streamer", "upload", path, started.job, account, target=target)
        return replace(started, job=replace(started.job, transfer=self._remember(record)))

    async def download(
        self,
        path: str,
        deadline: Deadline,
        *,
        account: str | None,
        request: TransferRequest,  # noqa: ARG002 -- it has no parameters
    ) -> StartedTransfer:
        size = await check_source(self._session, path, deadline)
        started = await self._start("download", path, deadline, account)
        record = job_record("streamer", "download", path, started.job, account, size=size)
        return replace(started, job=replace(started.job, transfer=self._remember(record)))

    async def _start(self, verb: str, path: str, deadline: Deadline, account: str | None) -> StartedTransfer:
        given = self._options
        secret = secrets.token_urlsafe(24)
        certificate, digest = await asyncio.to_thread(new_certificate)
        variables = {
            "secret": secret,
            "certificate": certificate,
            "host": given.host,
            "ports": given.ports,
            "wait_timeout": given.wait_timeout,
            "retry_timeout": given.retry_timeout,
            "limit": given.inbound_limit,
            "require_tls": given.require_tls,
        }
        modules = RECEIVE if verb == "upload" else SEND
        job = TransferJob(
            NAMES[verb == "download"],
            await asyncio.to_thread(python_script, given.python, *modules),
            f"{verb.capitalize()} job of the streamer",
            f"File was successfully {verb}ed.",
            f"Unable to {verb} the file",
            env=program_environment(path, variables),
        )
        submitted = await self._submitter.submit(job, deadline, account=account)
        coordinates = Coordinates(given.addresses, given.ports, secret, digest)
        return StartedTransfer(submitted, StreamerDirectives(coordinates.encoded()))
