"""The Transfers port over batch jobs: what each job does, and the transfer methods by name."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Invalid
from flamecrest.server.files.remote.commands import archive
from flamecrest.server.files.remote.commands.archive import Script
from flamecrest.server.files.remote.commands.copying import copy_script
from flamecrest.server.files.remote.commands.moving import move_script
from flamecrest.server.transfer.port import method_unavailable

from .records import forget, job_record
from .script import TransferJob

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.values import Compression, CompressOptions
    from flamecrest.server.transfer.port import StartedTransfer, SubmittedTransfer, TransferMethod, TransferRequest
    from flamecrest.server.transfer.records.record import Method, Record

    from .submission import TransferSubmitter

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
    """The Transfers port over a TransferSubmitter; uploads and downloads are those of `methods`, by name.

    A method is made when it is used. `cluster` is named in the error about a missing method. `remember` keeps the
    record of a job that was submitted, for the list of transfers, and returns its id there; nobody waits for it.
    """

    def __init__(
        self,
        submitter: TransferSubmitter,
        *,
        cluster: str,
        methods: Mapping[str, Callable[[], TransferMethod]] = MappingProxyType({}),
        remember: Callable[[Record], str] = forget,
    ) -> None:
        self._submitter = submitter
        self._cluster = cluster
        self._methods = methods
        self._remember = remember

    async def mv(
        self, source: str, target: str, deadline: Deadline, *, account: str | None, key: str | None = None
    ) -> SubmittedTransfer:
        """Move or rename."""
        job = TransferJob.of("move", "moved", move_script(source, target))
        return await self._submit("mv", (source, target), job, account, deadline, key)

    async def cp(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        *,
        account: str | None,
        key: str | None = None,
        dereference: bool,
    ) -> SubmittedTransfer:
        """Copy a file or a tree, with modes, times and all other attributes that the user may set."""
        script = copy_script(source, target, overwrite=True, dereference=dereference, into=True)
        job, details = TransferJob.of("copy", "copied", script), {"dereference": int(dereference)}
        return await self._submit("cp", (source, target), job, account, deadline, key, details)

    async def rm(
        self, path: str, deadline: Deadline, *, account: str | None, key: str | None = None
    ) -> SubmittedTransfer:
        """Remove a file or a tree. The job fails if there is none."""
        job = TransferJob.of("delete", "deleted", Script(_DELETE, (path,)))
        return await self._submit("rm", (path, ""), job, account, deadline, key)

    async def compress(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        *,
        account: str | None,
        key: str | None = None,
        options: CompressOptions,
    ) -> SubmittedTransfer:
        """Archive a file or a tree. Raises Invalid if the archive would replace it."""
        if posixpath.normpath(source) == posixpath.normpath(target):
            raise Invalid("`targetPath` is what is archived: the archive would replace it")
        script = archive.compress(source, target, options)
        details = {
            "compression": options.compression,
            "dereference": int(options.dereference),
            "match_pattern": options.pattern or "",
        }
        job = TransferJob.of("compress", "compressed", script)
        return await self._submit("compress", (source, target), job, account, deadline, key, details)

    async def extract(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        *,
        account: str | None,
        key: str | None = None,
        compression: Compression,
    ) -> SubmittedTransfer:
        """Unpack an archive."""
        script = archive.extract(source, target, compression=compression)
        job, details = TransferJob.of("extract", "extracted", script), {"compression": compression}
        return await self._submit("extract", (source, target), job, account, deadline, key, details)

    async def upload(
        self,
        path: str,
        deadline: Deadline,
        *,
        account: str | None,
        request: TransferRequest,
    ) -> StartedTransfer:
        return await self._method(request).upload(path, deadline, account=account, request=request)

    async def download(
        self,
        path: str,
        deadline: Deadline,
        *,
        account: str | None,
        request: TransferRequest,
    ) -> StartedTransfer:
        return await self._method(request).download(path, deadline, account=account, request=request)

    def _method(self, request: TransferRequest) -> TransferMethod:
        method = self._methods.get(request.method)
        if method is None:
            raise method_unavailable(request.method, self._cluster, list(self._methods))
        return method()

    async def _submit(
        self,
        method: Method,
        paths: tuple[str, str],
        job: TransferJob,
        account: str | None,
        deadline: Deadline,
        key: str | None,
        details: Mapping[str, str | int] = MappingProxyType({}),
    ) -> SubmittedTransfer:
        submitted = await self._submitter.submit(job, deadline, account=account, key=key)
        path, target = paths
        record = job_record(method, "internal", path, submitted, account, target=target, details=details)
        return replace(submitted, transfer=self._remember(record))
