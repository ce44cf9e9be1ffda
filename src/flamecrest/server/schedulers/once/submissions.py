"""Submissions that are made exactly once: each has a marker, by which the job is found if the answer is lost.

The marker is made of the user, a key and the job. The key is that of the caller (`Idempotency-Key`) or a random one.
Jobs keep their marker in the scheduler, so a repeated request finds the job through any replica, and after a restart.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import secrets
import time
from base64 import b32encode
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Denied, GatewayError, InProgress, KeyReused, Timeout
from flamecrest.server.schedulers.job_errors import NotRecordedYet, UnclearSubmission
from flamecrest.server.schedulers.job_lookup import RECOVERABLE
from flamecrest.server.schedulers.values import JobSpec

from .batches import Batch
from .marked_jobs import is_before

if TYPE_CHECKING:
    from flamecrest.server.schedulers.reading.job_reads import JobReads

    from .marked_jobs import MarkedJobs

KEY_LIFE: Final = 86400.0  # seconds for which a key is remembered here; the scheduler's records are searched later
UNCLEAR_LIFE: Final = 600.0  # seconds in which the same job without a key is taken as the same submission
MOST: Final = 10_000  # keys, and unclear submissions, that are remembered
SEARCH_PART: Final = 0.1  # the part of a deadline that is kept to look for a job whose submission has not answered
SEARCH_SECONDS: Final = 10.0
_PAUSES: Final = (0.2, 2.0)  # seconds between two searches: the first and the longest
_NOT_RECORDED: Final = 0.5  # seconds between two searches while the accounting is late
MARKER: Final = re.compile(r"flamecrest-[a-z2-7]{20}-[a-z2-7]{8}", re.ASCII)
_DEFAULTS: Final = JobSpec("")
_HASHED: Final = sorted({one.name for one in fields(JobSpec)} - {"marker", "idempotency_key", "new_key"})

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Marker:
    """The text that a job carries. It begins with `prefix`, which depends on user and key only, not on the job."""

    prefix: str
    text: str


def make_marker(user: str, key: str, spec: JobSpec) -> Marker:
    """The marker of a job: digests of user and key, and of the job. Neither key nor job can be read from it."""
    secret = hashlib.blake2b(f"{user}\0{key}".encode(), person=b"flamecrest-key").digest()
    given = {name: value for name in _HASHED if (value := getattr(spec, name)) != getattr(_DEFAULTS, name)}
    text = json.dumps(given, default=_plain, sort_keys=True)
    body = hashlib.blake2b(text.encode(), digest_size=5, key=secret).digest()
    prefix = f"flamecrest-{b32encode(secret[:13])[:20].decode().lower()}-"
    return Marker(prefix, prefix + b32encode(body).decode().lower())


def _plain(value: Any) -> Any:
    """A value of a JobSpec as JSON has it, without fields that are not set."""
    return {one.name: found for one in fields(value) if (found := getattr(value, one.name)) is not None}


def is_marker(text: str | None) -> bool:
    """Whether a job's comment is a marker, which is not shown to users as theirs."""
    return text is not None and MARKER.fullmatch(text) is not None


class MarkedSubmitter(Protocol):
    """What an adapter does for marked submissions of one user."""

    async def submit_marked(self, spec: JobSpec, deadline: Deadline) -> str:
        """Submit the job. Raises UnclearSubmission if it is not known whether there is a job now."""
        ...

    async def settle(self, prefix: str, deadline: Deadline) -> None:
        """Wait until no earlier submission with such a marker is under way; alternatives are separated by `|`."""
        ...

    async def find(self, marker: str, deadline: Deadline) -> str | None:
        """The id of the first job whose marker begins so, ended ones included; None if certainly there is none."""
        ...

    async def find_live(self, marker: str, deadline: Deadline) -> str | None:
        """The same among the jobs that the live scheduler knows."""
        ...

    async def marked(self, deadline: Deadline) -> MarkedJobs:
        """All jobs with markers, ended ones included."""
        ...

    async def marked_live(self, deadline: Deadline) -> MarkedJobs:
        """The same among the jobs that the live scheduler knows."""
        ...

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        """Cancel a job."""
        ...


Searcher = MarkedSubmitter | Batch


@dataclass(slots=True)
class _Answered:
    marker: str
    job_id: str
    at: float


class Submissions:
    """The submissions to one cluster: which keys are under way, answered, or of unclear outcome.

    `search_seconds`: how long a job is looked for. `clock` is monotonic, in seconds.
    """

    def __init__(self, *, search_seconds: float = SEARCH_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._search_seconds = search_seconds
        self._clock = clock
        self._under_way: dict[str, str] = {}  # prefixes and markers
        self._batches: dict[str, Batch] = {}  # by prefix
        self._answered: OrderedDict[str, _Answered] = OrderedDict()  # by prefix
        self._unclear: OrderedDict[str, tuple[str, float]] = OrderedDict()  # key and time, by the job without a key

    async def submit(self, submitter: MarkedSubmitter, user: str, spec: JobSpec, deadline: Deadline) -> str:
        """Submit the job once and return its id.

        Raises InProgress while the same key is under way, KeyReused if it is that of another job, UnclearSubmission if
        the outcome cannot be found out until the deadline, and what the submitter raises.
        """
        key = spec.idempotency_key
        if key is None and self._unclear:
            key = self._take_unclear(user, spec)
        if key is not None:
            try:
                return await self._once(submitter, user, key, spec, deadline)
            except (*RECOVERABLE, asyncio.CancelledError):
                self._note_unclear(user, spec, key)
                raise
        key = secrets.token_urlsafe(16)
        return await self._attempt(submitter, user, key, make_marker(user, key, spec), spec, deadline)

    async def _once(self, submitter: MarkedSubmitter, user: str, key: str, spec: JobSpec, deadline: Deadline) -> str:
        marker = make_marker(user, key, spec)
        answered = self._answered.get(marker.prefix)
        if answered is not None and self._clock() - answered.at <= KEY_LIFE:
            if answered.marker != marker.text:
                raise _reused()
            return answered.job_id
        if (other := self._under_way.get(marker.prefix)) is not None:
            raise _in_progress() if other == marker.text else _reused()
        self._under_way[marker.prefix] = marker.text
        batch = self._batches.get(marker.prefix)
        try:
            job_id = None if spec.new_key else await self._existing(batch or submitter, marker, deadline)
            if job_id is None:
                job_id = await self._attempt(submitter, user, key, marker, spec, deadline)
                if batch is not None:
                    batch.note(marker.text, job_id)
                elif not spec.new_key:
                    job_id = await self._first(submitter, marker, job_id, deadline)
        finally:
            del self._under_way[marker.prefix]
        self._answered.pop(marker.prefix, None)
        _keep(self._answered, marker.prefix, _Answered(marker.text, job_id, self._clock()))
        return job_id

    @asynccontextmanager
    async def batch(
        self, submitter: MarkedSubmitter, user: str, specs: Iterable[JobSpec], seconds: float
    ) -> AsyncIterator[Mapping[str, str]]:
        """A block that submits these jobs: those with keys are looked for together.

        Yields the ids of jobs that were submitted before, by the ids that are returned for them. It is filled at the
        end, which takes `seconds` at most.
        """
        keys = [one.idempotency_key for one in specs if one.idempotency_key is not None]
        prefixes = {make_marker(user, key, _DEFAULTS).prefix for key in keys}
        batch = Batch(submitter, prefixes - self._batches.keys(), clock=self._clock)
        self._batches |= dict.fromkeys(batch.prefixes, batch)
        try:
            yield batch.kept
            await batch.confirm(Deadline.after(seconds))
        finally:
            for prefix in batch.prefixes:
                del self._batches[prefix]
            for one in [one for one in self._answered.values() if one.job_id in batch.kept]:
                one.job_id = batch.kept[one.job_id]

    async def _existing(self, searcher: Searcher, marker: Marker, deadline: Deadline) -> str | None:
        """The id of the job that was submitted with this key before. Raises KeyReused if it is another job."""
        try:
            await searcher.settle(marker.prefix, deadline.sub(deadline.left() / 2))
        except Timeout:
            raise _in_progress() from None
        try:
            if await self._certain(searcher, marker.prefix, deadline) is None:
                return None
            found = await self._certain(searcher, marker.text, deadline)
        except (*RECOVERABLE, Denied) as error:
            kind = next(kind for kind in (*RECOVERABLE, Denied) if isinstance(error, kind))
            message = f"Nothing was submitted, because it is not known whether the job exists already. {error.public}"
            raise kind(message, detail=error.detail) from error
        if found is None:
            raise _reused()
        return found

    async def _certain(self, searcher: Searcher, marker: str, deadline: Deadline) -> str | None:
        """The result of a search, once it is certain."""
        until = deadline.sub(deadline.left() / 2)
        while True:
            try:
                return await searcher.find(marker, deadline)
            except NotRecordedYet:
                if until.left() <= _NOT_RECORDED:
                    raise
            await asyncio.sleep(_NOT_RECORDED)

    async def _attempt(
        self, submitter: MarkedSubmitter, user: str, key: str, marker: Marker, spec: JobSpec, deadline: Deadline
    ) -> str:
        early = deadline.sub(deadline.left() * (1 - SEARCH_PART))
        try:
            return await submitter.submit_marked(replace(spec, marker=marker.text), early)
        except UnclearSubmission as error:
            self._note_unclear(user, spec, key)
            job_id = await self._search(submitter, marker, deadline)
            if job_id is None:
                raise error.with_advice(_advice(key, marker)) from error
            self._unclear.pop(_unkeyed(user, spec), None)
            return job_id
        except asyncio.CancelledError:
            self._note_unclear(user, spec, key)
            raise

    async def _search(self, submitter: MarkedSubmitter, marker: Marker, deadline: Deadline) -> str | None:
        """Look for the job until it is there; its submission may still be under way on the cluster."""
        until = deadline.sub(self._search_seconds)
        pause, longest = _PAUSES
        while True:
            try:
                if (job_id := await submitter.find(marker.text, deadline)) is not None:
                    return job_id
            except GatewayError as error:
                _log.warning("looking for the job %s failed: %s", marker.text, error.detail or error.public)
            if until.left() <= pause:
                return None
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    async def _first(self, submitter: MarkedSubmitter, marker: Marker, job_id: str, deadline: Deadline) -> str:
        """The first job with this marker: another replica may have submitted one at the same moment."""
        try:
            first = await submitter.find_live(marker.text, deadline)
            if first is None or not is_before(first, job_id):
                return job_id
            await submitter.cancel(job_id, deadline)
        except GatewayError as error:
            _log.warning("a second job %s cannot be ruled out: %s", marker.text, error.detail or error.public)
            return job_id
        _log.warning("job %s was submitted before with the same key, as %s, and is cancelled", job_id, first)
        return first

    def unclear(self) -> list[tuple[str, float]]:
        """The keys of the submissions whose outcome is unclear, and when they were made."""
        return list(self._unclear.values())

    def _note_unclear(self, user: str, spec: JobSpec, key: str) -> None:
        if spec.idempotency_key is None:
            _keep(self._unclear, _unkeyed(user, spec), (key, self._clock()))

    def _take_unclear(self, user: str, spec: JobSpec) -> str | None:
        """The key of the last submission of the same job if its outcome is unclear: clients repeat after an error.

        One request takes it: more of them may be meant as further jobs.
        """
        key, at = self._unclear.pop(_unkeyed(user, spec), (None, 0.0))
        return key if self._clock() - at <= UNCLEAR_LIFE else None


async def submitted(submission: Awaitable[str], reads: JobReads | None, user: str) -> str:
    """The id that the submission returns. The user's jobs are read anew after it, even if it fails."""
    job_id: str | None = None
    try:
        job_id = await submission
    finally:
        if reads is not None:
            reads.written(user, job_id)
    return job_id


def _unkeyed(user: str, spec: JobSpec) -> str:
    return make_marker(user, "", spec).text


def _keep(where: OrderedDict[str, Any], name: str, value: object) -> None:
    where[name] = value
    while len(where) > MOST:
        where.popitem(last=False)


def _advice(key: str, marker: Marker) -> str:
    return (
        f"Or send the same request with the header `Idempotency-Key: {key}`: it returns the job, and submits it only "
        f"if there is none. In the scheduler the job has the marker {marker.text}."
    )


def _in_progress() -> InProgress:
    return InProgress("A request with this Idempotency-Key is being processed. Send it again later.")


def _reused() -> KeyReused:
    return KeyReused("This Idempotency-Key was used for another job. Use a new key for each job.")
