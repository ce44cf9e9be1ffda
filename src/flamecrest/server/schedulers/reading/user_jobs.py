"""What the gateway remembers of the jobs that one user has seen. Pure: no I/O, no clock of its own.

It keeps three things: the last state that the live queue has shown of each job, so that a later and older answer takes
no state back; the accounting records of the user's lists; and those of single jobs. An ended job does not change, save
for a requeue, which the live queue shows. Times are monotonic, except `epoch`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flamecrest.server.schedulers.merging import JobRecord, Snapshot
from flamecrest.server.schedulers.values import Stage

if TYPE_CHECKING:
    from .shared_answers import Answer

OVERLAP: Final = 600  # seconds before the last list that the next one covers again: the database gets jobs late
FULL_LIST: Final = 900.0  # seconds after which a list is read in full again
ENDED_FOR: Final = 3600.0  # seconds after which an ended job is asked for again
LARGE_QUEUE: Final = 1000  # jobs; for a single job of a longer queue that job is asked for
RECENTLY: Final = 2  # intervals after a list of the accounting in which it is shown while the next one is read
MAX_SINGLES: Final = 3  # single jobs of a long queue that are asked for at a time; beyond, the whole queue is


@dataclass(frozen=True, slots=True)
class Seen:
    """A record of the live scheduler, and when it was asked for."""

    record: JobRecord
    asked: float


@dataclass(frozen=True, slots=True)
class PastJob:
    """The accounting records for one job id."""

    records: tuple[JobRecord, ...]
    asked: float

    @property
    def ended(self) -> bool:
        """Whether there are records and all are final."""
        return bool(self.records) and all(_is_final(record) for record in self.records)


class UserJobs:
    """The memory of one user.

    `life` is the life of an answer, `interval` the least time between two lists of the accounting, both in seconds.
    """

    def __init__(self, user: str, *, life: float, interval: float) -> None:
        self.user = user
        self.version = 0  # changes with each change of the memory
        self._weight, self._weighed = 1, 0  # the weight of that version
        self.changed = float("-inf")  # when the user has last changed jobs
        self.queue_size = 0
        self.own: set[str] = set()  # ids of new jobs that the next queue will show
        self.singles: dict[str, float] = {}  # base ids of jobs that were asked for alone: when
        self._life = life
        self._interval = interval
        self._seen: dict[str, dict[str, Seen]] = {}  # by base id and id, as are the records of lists
        self._listed: dict[str, dict[str, JobRecord]] = {}
        self._by_id: OrderedDict[str, PastJob] = OrderedDict()
        self._vanished: dict[
            str, float
        ] = {}  # jobs that have left the queue: when the queue without them was asked for
        self._covered = 0.0  # epoch since when the lists are complete; 0: no list
        self._tried_window = 0
        self._tried = self._full = float("-inf")
        self._read = 0.0  # epoch of the last list

    @property
    def weight(self) -> int:
        """One more than the number of records."""
        if self._weighed != self.version:
            self._weighed, self._weight = self.version, 1 + self._count()
        return self._weight

    def _count(self) -> int:
        listed = sum(map(len, self._seen.values())) + sum(map(len, self._listed.values()))
        return listed + sum(1 + len(past.records) for past in self._by_id.values())

    # the live queue

    def observe(self, answer: Answer[Snapshot], *, whole: bool) -> None:
        """Remember an answer of the live scheduler. `whole`: it has all of the user's own jobs."""
        self.version += 1
        now = {record.job.id for record in answer.value.records}
        if whole:
            self.queue_size = len(now)
            for job_id in self.own:
                self._forget_reused(job_id)
            self.own.clear()
            self._forget_missing(now, answer.asked)
        for record in answer.value.records:
            states = self._seen.setdefault(record.base_id, {})
            before = states.get(record.job.id)
            if before is None or before.asked <= answer.asked:
                states[record.job.id] = Seen(record, answer.asked)
            if record.stage is not Stage.ENDED:
                self._forget_earlier_run(record)

    def _forget_missing(self, now: set[str], asked: float) -> None:
        """Of jobs that the queue no longer has, keep the final state until the accounting has it."""
        for base_id, states in list(self._seen.items()):
            for job_id, seen in list(states.items()):
                record = seen.record
                if job_id in now or seen.asked > asked or record.job.user not in {None, self.user}:
                    continue
                if record.stage is Stage.ENDED and not self._has_final(base_id, job_id):
                    continue
                del states[job_id]
                if record.stage is not Stage.ENDED and not record.is_group:
                    self._vanished[job_id] = asked
            if not states:
                del self._seen[base_id]

    def _has_final(self, base_id: str, job_id: str) -> bool:
        listed = self._listed.get(base_id, {}).get(job_id)
        past = self._by_id.get(job_id)
        return (listed is not None and _is_final(listed)) or (past is not None and past.ended)

    def _forget_earlier_run(self, record: JobRecord) -> None:
        """Forget the end of an earlier run of a job that was requeued."""
        listed = self._listed.get(record.base_id, {})
        earlier = listed.get(record.job.id)
        if earlier is not None and _is_final(earlier) and _is_later_run(record, earlier):
            del listed[record.job.id]
        for job_id in (record.base_id, record.job.id):
            past = self._by_id.get(job_id)
            if past is not None and past.ended and any(_is_later_run(record, one) for one in past.records):
                del self._by_id[job_id]

    def _forget_reused(self, job_id: str) -> None:
        """Forget an earlier job with the id of a new one: a scheduler that has lost its state begins anew."""
        past = self._by_id.get(job_id)
        if past is not None and past.asked <= self.changed:
            del self._by_id[job_id]
        if self._tried <= self.changed:
            self._listed.pop(job_id, None)

    def live(self, records: Iterable[JobRecord], asked: float, base_id: str | None = None) -> list[JobRecord]:
        """The records of an answer as of `asked`, with later ones where the user has seen those.

        `base_id`: they are those of one job.
        """
        newest = {record.job.id: record for record in records}
        chosen = self._seen.values() if base_id is None else [self._seen.get(base_id, {})]
        for states in chosen:
            for job_id, seen in states.items():
                mine = seen.record.job.user in {None, self.user} or base_id is not None
                kept = seen.record.stage is Stage.ENDED and mine
                if seen.asked > asked or (kept and job_id not in newest):
                    newest[job_id] = seen.record
        return list(newest.values())

    def seen(self, base_id: str) -> list[JobRecord]:
        """The last records of a job that the live scheduler has shown."""
        return [seen.record for seen in self._seen.get(base_id, {}).values()]

    def prefers_queue(self, base_id: str, now: float) -> bool:
        """Whether a job is likely in the user's queue, and the whole queue is to be asked for."""
        states = self._seen.get(base_id, {}).values()
        mine = base_id in self.own or any(seen.record.job.user in {None, self.user} for seen in states)
        if not mine and not any(one.job.user in {None, self.user} for one in self._listed.get(base_id, {}).values()):
            return False
        self.singles = {one: at for one, at in self.singles.items() if now - at < self._life}
        return self.queue_size <= LARGE_QUEUE or len(self.singles.keys() | {base_id}) > MAX_SINGLES

    # lists of the accounting

    def list_due(self, window: int, now: float, epoch: float) -> int | None:
        """How many seconds back a list has to be read to cover `window` seconds; None if what is known is enough."""
        covers = self._covers(window, epoch)
        if now - self._tried < self._interval:
            if window > self._tried_window + 5 and not covers:
                return window
            return self._since_last(epoch) if self._vanished and covers else None
        if covers and now - self._full < FULL_LIST:
            return self._since_last(epoch)
        return window

    def is_recent(self, window: int, now: float, epoch: float) -> bool:
        """Whether what is known will do while the next list is read: no job has left the queue since the last one."""
        return self._covers(window, epoch) and not self._vanished and now - self._tried < RECENTLY * self._interval

    def _covers(self, window: int, epoch: float) -> bool:
        return self._covered > 0 and epoch - window >= self._covered - 5

    def _since_last(self, epoch: float) -> int:
        return int(epoch - self._read) + OVERLAP

    def tried(self, window: int, now: float) -> None:
        """Note that a list was asked for at `now`, successfully or not."""
        self._tried, self._tried_window = now, window
        self._vanished = {job_id: asked for job_id, asked in self._vanished.items() if asked > now}

    def add_list(self, records: Iterable[JobRecord], window: int, now: float, epoch: float) -> None:
        """Remember a list of the accounting that was asked for at `now` and covers `window` seconds."""
        self.version += 1
        found: dict[str, dict[str, JobRecord]] = {}
        for record in records:
            found.setdefault(record.base_id, {})[record.job.id] = record
        incremental = bool(self._covered) and epoch - window > self._covered
        if incremental:
            for base_id, earlier in self._listed.items():
                kept = {key: one for key, one in earlier.items() if _is_final(one)}
                if kept.keys() != earlier.keys() and not earlier.keys() <= found.get(base_id, {}).keys() | kept.keys():
                    self._full = float("-inf")  # what has not ended is in every list: read the next one in full
                found[base_id] = {**kept, **found.get(base_id, {})}
        else:
            self._covered, self._full = epoch - window, now
        self._listed = {base_id: jobs for base_id, jobs in found.items() if jobs}
        self._read = epoch
        self.tried(int(epoch - self._covered), now)

    def listed(self) -> list[JobRecord]:
        """The accounting records of the user's lists."""
        return [record for jobs in self._listed.values() for record in jobs.values()]

    # single jobs of the accounting

    def add_job(self, job_id: str, records: Iterable[JobRecord], now: float) -> None:
        """Remember the accounting's answer for one job id."""
        self.version += 1
        self._by_id[job_id] = PastJob(tuple(records), now)
        self._by_id.move_to_end(job_id)

    def past(self, job_id: str, base_id: str | None) -> list[JobRecord]:
        """The accounting records that are known for a job id."""
        listed = self._listed.get(base_id, {}) if base_id is not None else {}
        past = self._by_id.get(job_id)
        if past is None:
            return list(listed.values())
        single = {record.job.id: record for record in past.records}
        return list(({**single, **listed} if self._tried > past.asked else {**listed, **single}).values())

    def job_due(self, job_id: str, base_id: str | None, live: Iterable[JobRecord], now: float) -> bool:
        """Whether the accounting has to be asked for a job, of which the live scheduler has the records `live`."""
        if job_id in self.own:
            self._forget_reused(job_id)
        states = list(live)
        plain = len(states) <= 1 and all(_is_plain(record) for record in states)
        if states and plain and states[0].stage is Stage.WAITING and not states[0].restarts:
            return False
        runs = any(record.stage is not Stage.ENDED for record in states)
        patience = self._interval if runs else self._life
        past = self._by_id.get(job_id)
        if past is not None and not past.records and past.asked <= self.changed:
            return True  # it was unknown before the user's last change
        if past is not None and now - past.asked < (ENDED_FOR if past.ended and not runs else patience):
            return False
        if base_id is None or not plain:
            return True
        listed = self._listed.get(base_id, {}).get(base_id)
        if listed is None or not _is_plain(listed):
            return True
        return not (_is_final(listed) and not runs) and not (runs and now - self._tried < self._interval)

    # bounds

    def shrink(self, weight: int) -> None:
        """Forget single jobs, the oldest first, then all, until at most `weight` records are kept."""
        self.version += 1
        while self._by_id and self._count() > weight:
            for _ in range(1 + len(self._by_id) // 8):
                if self._by_id:
                    self._by_id.popitem(last=False)
        if self._count() > weight:
            self._seen.clear()
            self._listed.clear()
            self._covered = 0.0
            self._tried = float("-inf")


def _is_plain(record: JobRecord) -> bool:
    """Whether the record is that of a job, not of an element or component."""
    return record.elements is None and record.component is None


def _is_final(record: JobRecord) -> bool:
    return record.stage is Stage.ENDED and not record.placeholder


def _is_later_run(record: JobRecord, earlier: JobRecord) -> bool:
    submitted, before = record.job.times.submit, earlier.job.times.submit
    return record.restarts > 0 or (submitted is not None and before is not None and submitted > before)
