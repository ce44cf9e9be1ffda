"""What the gateway remembers of the jobs that one user has seen. Pure: no I/O, no clock of its own.

It keeps three things: the last state that the live queue has shown of each job, so that a later and older answer takes
no state back; the accounting records of the user's lists; and those of single jobs. An ended job does not change, save
for a requeue, which the live queue shows. Times are monotonic, except `epoch`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import ref

from flamecrest.server.schedulers.merging import JobRecord, Snapshot
from flamecrest.server.schedulers.values import Stage

from .merged_jobs import MergedJobs, RecordsByBase
from .vanished_jobs import VanishedJobs

if TYPE_CHECKING:
    from .shared_answers import Answer

OVERLAP: Final = 600  # seconds before the last list that the next one covers again: the database gets jobs late
FULL_LIST: Final = 900.0  # seconds after which a list is read in full again
ENDED_FOR: Final = 3600.0  # seconds after which an ended job is asked for again
LARGE_QUEUE: Final = 1000  # jobs; for a single job of a longer queue that job is asked for
RECENTLY: Final = 2  # intervals after a list of the accounting in which it is shown while the next one is read
MAX_SINGLES: Final = 3  # single jobs of a long queue that are asked for at a time; beyond, the whole queue is


@dataclass(slots=True)
class Seen:
    """A record of the live scheduler, and when it was asked for, which changes while the record says the same."""

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
        return bool(self.records) and all(record.is_final for record in self.records)


class UserJobs:
    """The memory of one user.

    `life` is the life of an answer, `interval` the least time between two lists of the accounting, both in seconds.
    """

    def __init__(self, user: str, *, life: float, interval: float) -> None:
        self.user = user
        self.version = 0  # changes with each change of what lists show
        self._queue: ref[Answer[Snapshot]] | None = None  # the last answer with all of the user's own jobs
        self._asked = float("-inf")  # when it was asked for
        self._queued: dict[str, int] = {}  # the ids in it, and their places
        self._merged = MergedJobs()  # as of that answer and of all later ones
        self._stale: set[str] = set()  # base ids whose records have changed since
        self._weight: int | None = 1  # None: unknown
        self.changed = float("-inf")  # when the user has last changed jobs
        self.queue_size = 0
        self.own: set[str] = set()  # ids of new jobs that the next queue will show
        self.singles: dict[str, float] = {}  # base ids of jobs that were asked for alone: when
        self._life = life
        self._interval = interval
        self._seen: dict[str, dict[str, Seen]] = {}  # by base id and id, as are the records of lists
        self._listed = RecordsByBase()
        self._open: set[str] = set()  # base ids of which the accounting has records that are not final
        self._by_id: OrderedDict[str, PastJob] = OrderedDict()
        self.vanished = VanishedJobs()
        self._unlisted: set[str] = set()  # base ids of jobs whose end is in no list
        self._covered = 0.0  # epoch since when the lists are complete; 0: no list
        self._tried_window = 0
        self._tried = self._full = float("-inf")
        self._read = 0.0  # epoch of the last list

    @property
    def weight(self) -> int:
        """One more than the number of records."""
        if self._weight is None:
            self._weight = 1 + self._count()
        return self._weight

    def _count(self) -> int:
        listed = sum(map(len, self._seen.values())) + len(self._listed)
        return listed + sum(1 + len(past.records) for past in self._by_id.values())

    # the live queue

    def observe(self, answer: Answer[Snapshot], *, whole: bool) -> None:
        """Remember an answer of the live scheduler. `whole`: it has all of the user's own jobs.

        A record that says the same as the earlier one is replaced by it: nothing has to be made of it again.
        """
        queued = self._queued
        if whole:
            self._observe_whole(answer)
        for record in answer.value.records:
            states = self._seen.setdefault(record.base_id, {})
            before = states.get(record.job.id)
            if before is None or before.asked <= answer.asked:
                same = before is not None and (before.record is record or before.record == record)
                if before is not None and same:
                    before.asked = answer.asked
                else:
                    states[record.job.id] = Seen(record, answer.asked)
                if not same or (whole and record.job.id not in queued):
                    self._changed(record.base_id)
            if record.stage is not Stage.ENDED:
                self._forget_earlier_run(record)

    def _observe_whole(self, answer: Answer[Snapshot]) -> None:
        queued = self._queued
        self._queue, self._asked = ref(answer), answer.asked
        self._queued = {record.job.id: place for place, record in enumerate(answer.value.records)}
        self.queue_size = len(self._queued)
        for job_id in self.own:
            self._forget_reused(job_id)
        self.own.clear()
        self._forget_missing(queued, answer)

    def _changed(self, base_id: str) -> None:
        self.version += 1
        self._weight = None
        self._stale.add(base_id)

    def _forget_missing(self, before: Container[str], answer: Answer[Snapshot]) -> None:
        """Of jobs that the queue no longer has, keep the final state until the accounting has it."""
        now, asked = self._queued, answer.asked
        for base_id, states in list(self._seen.items()):
            for job_id, seen in list(states.items()):
                record = seen.record
                if job_id in now or seen.asked > asked or not self._is_mine(record):
                    continue
                if record.stage is Stage.ENDED and not self._has_final(base_id, job_id):
                    if job_id in before:
                        self._changed(base_id)
                    continue
                del states[job_id]
                self._changed(base_id)
                if record.stage is not Stage.ENDED:
                    self.vanished.add(record, answer)
            if not states:
                del self._seen[base_id]

    def _has_final(self, base_id: str, job_id: str) -> bool:
        listed = self._listed.of(base_id).get(job_id)
        past = self._by_id.get(job_id)
        return (listed is not None and listed.is_final) or (past is not None and past.ended)

    def _forget_earlier_run(self, record: JobRecord) -> None:
        """Forget the end of an earlier run of a job that was requeued."""
        earlier = self._listed.of(record.base_id).get(record.job.id)
        if earlier is not None and earlier.is_final and record.is_later_run_than(earlier):
            self._listed.drop(record.base_id, record.job.id)
            self._changed(record.base_id)
        for job_id in (record.base_id, record.job.id):
            past = self._by_id.get(job_id)
            if past is not None and past.ended and any(record.is_later_run_than(one) for one in past.records):
                del self._by_id[job_id]

    def _forget_reused(self, job_id: str) -> None:
        """Forget an earlier job with the id of a new one: a scheduler that has lost its state begins anew."""
        past = self._by_id.get(job_id)
        if past is not None and past.asked <= self.changed:
            del self._by_id[job_id]
        if self._tried <= self.changed:
            self._listed.put(job_id, {})
            self._changed(job_id)

    def is_last(self, queue: Answer[Snapshot]) -> bool:
        """Whether that is the last answer with all of the user's own jobs, so that `merged` has what it has."""
        return self._queue is not None and self._queue() is queue

    def merge_some(self, most: int) -> bool:
        """Merge at most so many jobs that have changed. Whether there are more: then other tasks are to run before."""
        for _ in range(min(most, len(self._stale))):
            self._merge(self._stale.pop())
        return bool(self._stale)

    def merged(self) -> MergedJobs:
        """The user's own jobs as of the last queue and of later answers."""
        self.merge_some(len(self._stale))
        return self._merged

    def _merge(self, base_id: str) -> None:
        last = len(self._queued)
        shown = [(job_id, one) for job_id, one in self._seen.get(base_id, {}).items() if self._shows(job_id, one)]
        shown.sort(key=lambda one: self._queued.get(one[0], last))  # what the queue has wins over what it had
        live = [one.record for _, one in shown]
        past = [one for one in self._listed.of(base_id).values() if self._is_mine(one)]
        self._merged.put(base_id, live, past)

    def _shows(self, job_id: str, seen: Seen) -> bool:
        """Whether lists show it: the queue has it, or it was asked for later, or is the end that nobody else knows."""
        is_known = job_id in self._queued or seen.record.stage is Stage.ENDED
        return self._is_mine(seen.record) and (is_known or seen.asked > self._asked)

    def _is_mine(self, record: JobRecord) -> bool:
        return record.job.user in {None, self.user}

    def live(self, records: Iterable[JobRecord], asked: float, base_id: str | None = None) -> list[JobRecord]:
        """The records of an answer as of `asked`, with later ones where the user has seen those.

        `base_id`: they are those of one job.
        """
        newest = {record.job.id: record for record in records}
        chosen = self._seen.values() if base_id is None else [self._seen.get(base_id, {})]
        for states in chosen:
            for job_id, seen in states.items():
                mine = self._is_mine(seen.record) or base_id is not None
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
        mine = base_id in self.own or any(self._is_mine(seen.record) for seen in states)
        if not mine and not any(map(self._is_mine, self._listed.of(base_id).values())):
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
            return self._since_last(epoch) if self.vanished and covers else None
        if covers and now - self._full < FULL_LIST:
            return self._since_last(epoch)
        return window

    def is_recent(self, window: int, now: float, epoch: float) -> bool:
        """Whether what is known will do while the next list is read: no job has left the queue since the last one."""
        return self._covers(window, epoch) and not self.vanished and now - self._tried < RECENTLY * self._interval

    def _covers(self, window: int, epoch: float) -> bool:
        return self._covered > 0 and epoch - window >= self._covered - 5

    def _since_last(self, epoch: float) -> int:
        return int(epoch - self._read) + OVERLAP

    def tried(self, window: int, now: float) -> None:
        """Note that a list was asked for at `now`, successfully or not."""
        self._tried, self._tried_window = now, window
        self.vanished.list_asked(now)

    def add_list(self, records: Iterable[JobRecord], window: int, now: float, epoch: float) -> None:
        """Remember a list of the accounting that was asked for at `now` and covers `window` seconds."""
        found: dict[str, dict[str, JobRecord]] = {}
        for record in records:
            earlier = self._listed.of(record.base_id).get(record.job.id)
            same = self._listed_once(earlier if earlier == record else record)
            found.setdefault(record.base_id, {})[record.job.id] = same
        if self._covered and epoch - window > self._covered:
            self._extend(found)
        else:
            self._covered, self._full = epoch - window, now
            kept = {base_id: self._kept(base_id) for base_id in self._unlisted}
            for base_id in self._listed.base_ids() - found.keys() - kept.keys():
                self._list(base_id, {})
            for base_id in found.keys() | kept.keys():
                self._list(base_id, {**kept.get(base_id, {}), **found.get(base_id, {})})
            self._unlisted &= self._listed.base_ids()
        self._read = epoch
        self.tried(int(epoch - self._covered), now)

    def unlisted(self) -> tuple[str, ...]:
        """The base ids of jobs that have left the queue and are in no list: they are to be asked for by their ids."""
        return self.vanished.unlisted(self._listed)

    def add_unlisted(self, records: Iterable[JobRecord]) -> None:
        """Remember the accounting's answer for such jobs, as far as they have ended."""
        for record in [one for one in records if one.is_final]:
            self._unlisted.add(record.base_id)
            self._list(record.base_id, {**self._listed.of(record.base_id), record.job.id: record})

    def _listed_once(self, record: JobRecord) -> JobRecord:
        """A record of a list. If all that was asked for its job alone says the same, that is forgotten."""
        past = self._by_id.get(record.base_id)
        if past is None or past.records != (record,) or not (record.is_plain and record.is_final):
            return record
        if all(seen.record.stage is Stage.ENDED for seen in self._seen.get(record.base_id, {}).values()):
            del self._by_id[record.base_id]
            self._weight = None
        return past.records[0]

    def _kept(self, base_id: str) -> dict[str, JobRecord]:
        """Of a job whose end is in no list, what ended in the time that the lists cover."""
        listed = self._listed.of(base_id)
        return {key: one for key, one in listed.items() if one.is_final and (one.job.times.end or 0) >= self._covered}

    def _extend(self, found: dict[str, dict[str, JobRecord]]) -> None:
        """Add a list that begins after the first one; what had ended before need not be in it."""
        for base_id in self._open | found.keys():
            earlier, listed = self._listed.of(base_id), found.get(base_id, {})
            kept = {key: one for key, one in earlier.items() if one.is_final}
            if not earlier.keys() <= listed.keys() | kept.keys():
                self._full = float("-inf")  # what has not ended is in every list: read the next one in full
            self._list(base_id, {**kept, **listed})

    def _list(self, base_id: str, listed: dict[str, JobRecord]) -> None:
        """Set the accounting records with that base id."""
        self._open.discard(base_id)
        if not all(one.is_final for one in listed.values()):
            self._open.add(base_id)
        earlier = self._listed.of(base_id)
        if earlier.keys() != listed.keys() or any(one is not earlier[key] for key, one in listed.items()):
            self._changed(base_id)
        self._listed.put(base_id, listed)

    def listed(self) -> list[JobRecord]:
        """The accounting records of the user's lists."""
        return list(self._listed)

    # single jobs of the accounting

    def add_job(self, job_id: str, records: Iterable[JobRecord], now: float) -> None:
        """Remember the accounting's answer for one job id."""
        self._weight = None
        self._by_id[job_id] = PastJob(tuple(records), now)
        self._by_id.move_to_end(job_id)

    def past(self, job_id: str, base_id: str | None) -> list[JobRecord]:
        """The accounting records that are known for a job id."""
        listed = {} if base_id is None else self._listed.of(base_id)
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
        plain = len(states) <= 1 and all(record.is_plain for record in states)
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
        listed = self._listed.of(base_id).get(base_id)
        if listed is None or not listed.is_plain:
            return True
        return not (listed.is_final and not runs) and not (runs and now - self._tried < self._interval)

    # bounds

    def shrink(self, weight: int) -> None:
        """Forget single jobs, the oldest first, then all, until at most `weight` records are kept."""
        self._weight = None
        while self._by_id and self._count() > weight:
            for _ in range(1 + len(self._by_id) // 8):
                if self._by_id:
                    self._by_id.popitem(last=False)
        if self._count() > weight:
            self.version += 1
            self._queue, self._merged = None, MergedJobs()
            self._listed = RecordsByBase()
            for records in (self._seen, self._open, self._stale, self._unlisted):
                records.clear()
            self._covered = 0.0
            self._tried = float("-inf")
