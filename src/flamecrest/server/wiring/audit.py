"""From the settings of the audit log to the log itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flamecrest.server.audit.calls import Audit
from flamecrest.server.audit.chain import Chain
from flamecrest.server.audit.destinations import FileDestination, StdoutDestination, SyslogDestination
from flamecrest.server.audit.writer import AuditWriter

if TYPE_CHECKING:
    from flamecrest.server.audit.destinations import Destination
    from flamecrest.server.settings import AuditSettings


@asynccontextmanager
async def open_audit(settings: AuditSettings | None) -> AsyncIterator[Audit | None]:
    """The audit log while the block runs; None if there is none."""
    if settings is None:
        yield None
        return
    key = b"" if settings.key is None else settings.key.get_secret_value().encode()
    destinations: list[Destination] = []
    file = None
    if settings.file is not None:
        file = FileDestination(Path(settings.file), max_size=settings.max_file_size, keep=settings.keep_files)
        destinations.append(file)
    if settings.stdout:
        destinations.append(StdoutDestination())
    if settings.syslog is not None:
        destinations.append(SyslogDestination(settings.syslog))
    async with AuditWriter(destinations, lambda: Chain(key, "" if file is None else file.last_hash())) as writer:
        yield Audit(writer, reads=settings.reads)
