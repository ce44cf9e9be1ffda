"""The ids in the names of logs. A repeated request gets the id of the first one, so that its job is the same job.

A scheduler's adapter submits a job once if it gets the same job again, with the same idempotency key or after an
unclear outcome (ADR 0029). The job contains the names of its logs.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

if TYPE_CHECKING:
    from collections.abc import Callable

    from .script import TransferJob

UNCLEAR_SECONDS: Final = 600.0  # in which the same job without a key is taken as a repetition of one that failed
MOST: Final = 10_000  # jobs that are remembered


class LogIds:
    """The ids of one cluster's jobs. `clock` is monotonic, in seconds."""

    def __init__(self, *, new_id: Callable[[], UUID] = uuid4, clock: Callable[[], float] = time.monotonic) -> None:
        self._new_id = new_id
        self._clock = clock
        self._unclear: OrderedDict[bytes, tuple[UUID, float]] = OrderedDict()  # by the job

    def take(self, username: str, job: TransferJob, account: str | None, key: str | None) -> UUID:
        """The id of a job to submit: with a key always the same, else a new one or that of the failed submission."""
        if key is not None:
            return UUID(bytes=_digest("key", username, key))
        unique, at = self._unclear.pop(_job_digest(username, job, account), (None, 0.0))
        if unique is not None and self._clock() - at <= UNCLEAR_SECONDS:
            return unique
        return self._new_id()

    def failed(self, username: str, job: TransferJob, account: str | None, unique: UUID) -> None:
        """Remember the id of a job that may have been submitted: clients repeat a request after an error."""
        self._unclear[_job_digest(username, job, account)] = (unique, self._clock())
        while len(self._unclear) > MOST:
            self._unclear.popitem(last=False)


def _job_digest(username: str, job: TransferJob, account: str | None) -> bytes:
    variables = [text for item in sorted(job.env.items()) for text in item]
    script = job.script
    return _digest("job", username, account or "", job.name, script.text, *script.arguments, "", *variables)


def _digest(*texts: str) -> bytes:
    """16 bytes. No text contains NUL."""
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
