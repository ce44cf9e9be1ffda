"""The record of a transfer that a scheduler's job does. Its state, and how far it is, come from the job. No I/O."""

from __future__ import annotations

import time
from types import MappingProxyType
from typing import TYPE_CHECKING

from flamecrest.server.transfer.records.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flamecrest.server.transfer.port import SubmittedTransfer
    from flamecrest.server.transfer.records.record import Direction, Method


def job_record(
    method: Method,
    direction: Direction,
    path: str,
    submitted: SubmittedTransfer,
    account: str | None,
    *,
    target: str = "",
    size: int = 0,
    details: Mapping[str, str | int] = MappingProxyType({}),
) -> Record:
    """The record of a job that was just submitted. `size` is in bytes; 0: not known."""
    kept = {**details, "account": account or "", "output": submitted.output_log, "errors": submitted.error_log}
    now = int(time.time())
    return Record(method, direction, path, now, size, target, job_id=submitted.job_id, details=kept)


def forget(_: Record) -> str:
    """Keep no record."""
    return ""
