"""The output of a job: the file that the scheduler names, read as the caller. Knows the ports and no adapter."""

from __future__ import annotations

import stat
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import Query
from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Field, Invalid, NotFound
from flamecrest.server.http.core.openapi import DOWNLOAD_RESPONSES
from flamecrest.server.http.files.download import DownloadResponse
from flamecrest.server.schedulers.array_elements import ArrayPlace
from flamecrest.server.schedulers.values import Stage

from .output_events import FollowedOutput, FollowStart, LastEvent, OutputEvents

if TYPE_CHECKING:
    from flamecrest.server.cluster import Permission
    from flamecrest.server.files.port import Files
    from flamecrest.server.http.core.route import Call
    from flamecrest.server.schedulers.port import Scheduler
    from flamecrest.server.schedulers.values import Job, JobMetadata

_ELEMENT: Final = ("%a", "^array_index^")  # the number of an element, in the names of files of Slurm and OpenPBS
StreamName = Literal["stdout", "stderr"]
Stream = Annotated[StreamName, Query(description="Which of the job's streams")]
_MOST: Final = 2**63 - 1
LastBytes = Annotated[
    int | None, Query(alias="bytes", ge=1, le=_MOST, description="With `follow`: begin so many bytes before the end")
]
LastLines = Annotated[
    int | None, Query(alias="lines", ge=1, le=_MOST, description="With `follow`: begin so many lines before the end")
]
Offset = Annotated[
    int | None,
    Query(ge=0, le=_MOST, description="With `follow`: begin at this byte (from 0), at the end if that is less"),
]
OUTPUT_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    **DOWNLOAD_RESPONSES,
    200: {
        "content": {
            **DOWNLOAD_RESPONSES[200]["content"],
            "text/event-stream": {
                "schema": {
                    "type": "string",
                    "description": "With `follow`: events as of `tail`, and `end` with the job as its data.",
                }
            },
        }
    },
    204: {"description": "With `follow` and the `Last-Event-ID` of an event `end`: nothing will follow"},
}


async def job_output(call: Call, job_id: str, stream: StreamName, start: FollowStart, *, follow: bool) -> Response:
    """The response with the file of a stream, or an empty one while the job has not made it.

    Raises NotFound for an unknown job, and for an ended one whose file is unknown or gone; Invalid for a whole array.
    """
    last = LastEvent.of(call) if follow else None
    reading = await call.allow(Verb.JOBS_READ, jobs=(job_id,))
    job = (await reading.scheduler().job(job_id, call.deadline))[0]
    path = await _path(reading.scheduler(), job, stream, call.deadline)
    allowed = await call.allow(Verb.FILES_READ, path)
    files = allowed.files(path=path)
    if last is not None:
        place = _Place(reading, allowed, path, stream, call.cluster.limits.jobs)
        return await _followed(call, job, place, last, start)
    if job.times.end is None:
        try:
            await files.queries.stat(path, call.deadline, follow=True)
        except NotFound:
            return Response(b"", headers={"Cache-Control": "no-store"}, media_type="application/octet-stream")
    return DownloadResponse(files, path, call.deadline, call.cluster.limits.max_ops_file_size, limits_parts=True)


@dataclass(slots=True)
class _Place:
    """Where the output of a job is: some patterns in its path are known only when the job has started."""

    reading: Permission
    allowed: Permission
    path: str
    stream: StreamName
    seconds: float  # for a question to the scheduler
    is_known: bool = False

    async def open(self, job: Job) -> tuple[Files, str]:
        """The caller's files, and the path of the output of a job that has started."""
        again = self.is_known  # the name may be a link by now
        if not self.is_known and "%" in self.path:
            self.path = await _path(self.reading.scheduler(), job, self.stream, Deadline.after(self.seconds))
            again = True
        if again:
            self.allowed = await self.allowed.also(Deadline.after(self.seconds), self.path)
        self.is_known = True
        return self.allowed.files(path=self.path), self.path


async def _followed(call: Call, job: Job, place: _Place, last: LastEvent, start: FollowStart) -> Response:
    if job.times.end is not None and last.ended:
        return Response(status_code=204)  # browsers stop reconnecting
    if job.stage is not Stage.WAITING:
        lines = start.last_lines if last.after is None else None
        await _check_file(place, call.deadline, lines, may_be_missing=job.times.end is None)
    limits = call.cluster.limits
    seconds = (limits.jobs, limits.files)
    return OutputEvents(call, FollowedOutput(job, place.reading.scheduler, place.open, seconds, last.after, start))


async def _check_file(place: _Place, deadline: Deadline, lines: int | None, *, may_be_missing: bool) -> None:
    """Raise what is wrong with the file before the stream begins: clients connect again when a stream breaks off."""
    with suppress(NotFound) if may_be_missing else nullcontext():
        found = await place.allowed.files(path=place.path).queries.stat(place.path, deadline, follow=True)
        if not stat.S_ISREG(found.mode):
            raise Invalid(f"{place.path}: Not a regular file, so it cannot be followed")
        if lines is not None:  # they may be too long
            async with place.allowed.files(path=place.path).queries.follow(place.path, deadline, lines=lines):
                pass


async def _path(scheduler: Scheduler, job: Job, stream: StreamName, deadline: Deadline) -> str:
    elements = [] if ArrayPlace.of(job.id) else [step.id for step in job.steps if ArrayPlace.of(step.id)]
    if elements:
        raise _whole_array(job.id, elements[0])
    shown = (await scheduler.metadata(job.id, deadline))[0]
    path = _of(shown, stream) or _of(job, stream)
    if not path:
        raise NotFound(f"The scheduler no longer knows the file of {stream} of job {job.id}")
    if ArrayPlace.of(job.id) is None and any(pattern in path for pattern in _ELEMENT):
        raise _whole_array(job.id, f"{job.id}_1")
    return path if path.startswith("/") else f"{job.working_directory}/{path}"


def _whole_array(job_id: str, element: str) -> Invalid:
    message = f"{job_id} is a whole array, whose elements have an output each: ask for one, such as {element}"
    return Invalid(message, fields=(Field("path", "job_id", message),))


def _of(one: Job | JobMetadata, stream: str) -> str | None:
    return one.standard_error or one.standard_output if stream == "stderr" else one.standard_output
