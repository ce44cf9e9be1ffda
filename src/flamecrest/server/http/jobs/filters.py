"""Lists of jobs: filters, order and pages. Knows the Scheduler port and no adapter."""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

from fastapi import Query

from flamecrest.server.errors import Field, GatewayError, Invalid, NotFound
from flamecrest.server.http.core.shared_answers import Encoded
from flamecrest.server.http.core.user_memory import SMALL
from flamecrest.server.schedulers.values import SHOWN_STATES, SharedItem, SharedList
from flamecrest.wire.text import Word
from flamecrest.wire.units import read_duration, read_time

from .shown import show_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.http.core.route import Call
    from flamecrest.server.schedulers.port import Scheduler
    from flamecrest.server.schedulers.values import Job

MAX_IDS: Final = 1000
_PARTS: Final = 32  # narrowed lists and pages that are kept with a list
_MANY: Final = 200  # jobs whose list is made in a turn of the user's
_NAME: Final = 200  # bytes of a name that count for the order: the cursor has them
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-\[\]+]{0,127}", re.ASCII)
_NUMBERS: Final = re.compile(r"[0-9]+")

States = Annotated[Word | None, Query(description="States, separated by commas", examples=["PENDING,RUNNING"])]
Ids = Annotated[
    str | None, Query(max_length=60_000, description="Ids of jobs, separated by commas; unknown ones are left out")
]
PartitionName = Annotated[Word | None, Query(description="Partition")]
UserName = Annotated[Word | None, Query(description="User; jobs of others need the right to see them")]
Since = Annotated[
    str | None,
    Query(
        max_length=60,
        description="Instead of `time_window`: a duration back from now, or a time with its zone; at most 366 days",
        examples=["2h", "2027-01-31T08:00:00Z"],
    ),
]
Sort = Annotated[
    str | None,
    Query(
        pattern=r"^-?(?:submit|start|end|name|state|priority|id)$",
        description="Order; with `-` in front descending. Without it: by the time of submission",
    ),
]
Limit = Annotated[int | None, Query(ge=1, le=10_000, description="Length of a page; the answer has `nextCursor`")]
Cursor = Annotated[str | None, Query(max_length=2000, description="The `nextCursor` of the page before")]

Place = tuple[Any, tuple[int, ...], str]


def _id_place(job: Job) -> tuple[int, ...]:
    return tuple(int(number) for number in _NUMBERS.findall(job.id))


_KEYS: Final[Mapping[str, Callable[[Job], Any]]] = {
    "submit": lambda job: job.times.submit or 0,
    "start": lambda job: job.times.start or 0,
    "end": lambda job: job.times.end or 0,
    "name": lambda job: job.name.encode("utf-8", "surrogatepass")[:_NAME].hex(),
    "state": lambda job: job.state,
    "priority": lambda job: job.priority or 0,
    "id": lambda _: 0,
}


class JobsRequest(NamedTuple):
    """The filters, order and page of a list of jobs. `window` is in seconds."""

    all_users: bool = False
    account: str | None = None
    name: str | None = None
    window: int = 86400
    states: frozenset[str] = frozenset()
    ids: tuple[str, ...] = ()
    partition: str | None = None
    user: str | None = None
    since: int | None = None  # epoch
    sort: str | None = None
    limit: int | None = None
    after: Place | None = None

    @classmethod
    def of(
        cls,
        *,
        allusers: bool,
        account: str | None,
        name: str | None,
        window: int,
        state: str | None,
        ids: str | None,
        partition: str | None,
        user: str | None,
        since: str | None,
        sort: str | None,
        limit: int | None,
        cursor: str | None,
    ) -> JobsRequest:
        """Make it from the parameters. Raises Invalid."""
        begin = _since(since) if since else None
        return cls(
            allusers,
            account or None,
            name or None,
            window if begin is None else max(1, int(time.time()) - begin),
            _states(state) if state else frozenset(),
            _ids(ids) if ids else (),
            partition or None,
            user or None,
            begin,
            sort,
            limit,
            None if cursor is None else _read_cursor(cursor, sort or "submit"),
        )

    async def read(self, call: Call, scheduler: Scheduler) -> Encoded:
        """The list as it is shown, made once for all who share it; a narrowed one or a page, if it is not large."""
        jobs = await self._jobs(scheduler, call.identity.username, call.deadline)
        narrowed = self.states or self.ids or self.partition or self.user or self.since is not None
        if not narrowed and self.sort is None and self.limit is None and self.after is None:
            return await Encoded.of_long_list("jobs", jobs, show_job)
        shared = jobs if isinstance(jobs, SharedList) else SharedList(jobs)
        if isinstance(known := shared.parts.get(self), Encoded):
            return known
        users = call.scope["app"].users
        async with users.turn(call.scope) if len(jobs) > _MANY else nullcontext():
            page, following = self.page(shared.items)
            more = {} if self.limit is None else {"nextCursor": following}
            encoded = await Encoded.of_items("jobs", page, show_job, **more)
        if len(encoded.body) <= SMALL and len(shared.parts) < _PARTS:
            shared.parts[self] = encoded
        users.memory.hold(call.scope, len(encoded.body))
        return encoded

    async def _jobs(self, scheduler: Scheduler, caller: str, deadline: Deadline) -> list[Job]:
        if self.ids:
            found = await scheduler.jobs_by_id(self.ids, deadline)
            for one in found.values():
                if isinstance(one, GatewayError) and not isinstance(one, (NotFound, Invalid)):
                    raise one
            return [
                one
                for one in found.values()
                if not isinstance(one, GatewayError)
                and self.account in {None, one.account}
                and self.name in {None, one.name}
            ]
        return await scheduler.jobs(
            all_users=self.all_users or self.user not in {None, caller},
            account=self.account,
            name=self.name,
            window=self.window,
            deadline=deadline,
        )

    def page(self, jobs: Iterable[SharedItem[Job]]) -> tuple[list[SharedItem[Job]], str | None]:
        """The jobs of the page in order, and the cursor of the next; None at the end."""
        sort = self.sort or "submit"
        key, descending = _KEYS[sort.lstrip("-")], sort.startswith("-")
        placed = sorted(
            (((key(one.value), _id_place(one.value), one.value.id), one) for one in jobs if self._matches(one.value)),
            key=lambda one: one[0],
            reverse=descending,
        )
        if self.after is not None:
            after = self.after
            placed = [one for one in placed if (one[0] < after if descending else one[0] > after)]
        if self.limit is None or len(placed) <= self.limit:
            return [one for _, one in placed], None
        placed = placed[: self.limit]
        return [one for _, one in placed], _cursor(placed[-1][0], sort)

    def _matches(self, job: Job) -> bool:
        return (
            (not self.states or job.state in self.states)
            and (self.partition is None or self.partition in job.partition.split(","))
            and (self.user is None or job.user == self.user)
            and (self.since is None or job.times.end is None or job.times.end >= self.since)
        )


def _ids(text: str) -> tuple[str, ...]:
    ids = tuple(dict.fromkeys(one for one in text.split(",") if one))
    if len(ids) > MAX_IDS:
        raise _invalid("ids", f"must not be more than {MAX_IDS}")
    for one in ids:
        if not _ID.fullmatch(one):
            raise _invalid("ids", f"{one[:80]!r} is no id of a job")
    return ids


def _states(text: str) -> frozenset[str]:
    states = frozenset(one.strip().upper() for one in text.split(",") if one.strip())
    if not states <= SHOWN_STATES:
        raise _invalid("state", f"must be one or more of {', '.join(sorted(SHOWN_STATES))}")
    return states


def _since(text: str) -> int:
    now = int(time.time())
    try:
        since = read_time(text) if "T" in text[4:] else now - read_duration(text)
    except ValueError:
        raise _invalid("since", "must be a duration (`2h`) or a time with its zone") from None
    if not now - 366 * 86400 <= since <= now:
        raise _invalid("since", "must be in the past, at most 366 days ago")
    return since


def _cursor(place: Place, sort: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([sort, *place]).encode()).decode().rstrip("=")


def _read_cursor(cursor: str, sort: str) -> Place:
    try:
        text = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = json.loads(text)
    except (ValueError, binascii.Error, RecursionError):
        found = None
    match found:
        case [str() as order, (int() | str()) as key, list() as numbers, str() as job_id] if all(
            type(one) is int for one in numbers
        ):
            if order != sort:
                raise _invalid("cursor", "is of a list in another order")
            if isinstance(key, str) == (sort.lstrip("-") in {"name", "state"}):
                return key, tuple(numbers), job_id
    raise _invalid("cursor", "is no cursor of a list of jobs")


def _invalid(name: str, message: str) -> Invalid:
    return Invalid(f"`{name}` {message}", fields=(Field("query", name, message),))
