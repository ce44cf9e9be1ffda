"""Server-sent events of the caller's jobs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.auth.port import Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.http.core.shared_events import OVERLAP, Events, EventsResponse, last_event

from .shown import show_job

if TYPE_CHECKING:
    from starlette.responses import Response

    from flamecrest.server.http.core.route import Call
    from flamecrest.server.schedulers.values import Job

EVENTS_WINDOW: Final = 3600.0  # seconds; jobs that ended before are no events
EVENTS_LONGEST: Final = 86400.0  # seconds after the last event in which a client can go on
JOB_EVENTS: Final[Mapping[int | str, dict[str, Any]]] = MappingProxyType(
    {
        200: {
            "content": {
                "text/event-stream": {
                    "schema": {
                        "type": "string",
                        "description": "Events `job`; their data is a job, as in lists of jobs.",
                    }
                }
            }
        }
    }
)


async def job_events(call: Call) -> Response:
    """The events of the caller's jobs, from the last one on that the client has. Raises Invalid, Denied."""
    since = last_event(call)
    allowed = await call.allow(Verb.JOBS_READ)

    async def read(window: float = EVENTS_WINDOW) -> list[Job]:
        deadline = Deadline.after(call.cluster.limits.jobs)
        return await allowed.scheduler().jobs(
            all_users=False, account=None, name=None, window=int(window), deadline=deadline
        )

    missed = 0.0 if since is None else time.time() - since + OVERLAP
    found = await read(min(max(EVENTS_WINDOW, missed), EVENTS_LONGEST))
    first = [job for job in found if job.times.end is None or (since is not None and job.times.end >= since - OVERLAP)]
    events = Events("job", read, allowed.scheduler().wait_for_change, lambda job: job.id, _course, show_job)
    return EventsResponse(call, events, found, first)


def _course(job: Job) -> tuple[str, int | None]:
    """What an event tells of: the state, and the submission, which a requeue repeats."""
    return job.state, job.times.submit
