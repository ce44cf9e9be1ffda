"""Routes of `/compute/{system_name}/bulk`: many jobs in one request, each with its own result."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, Timeout, Unavailable
from flamecrest.server.http.core.errors import status_of
from flamecrest.server.http.core.openapi import ERRORS
from flamecrest.server.http.core.parameters import body_limit
from flamecrest.server.http.core.responses import JsonResponse
from flamecrest.server.http.core.route import Call, GatewayRoute
from flamecrest.server.schedulers.values import JobAction
from flamecrest.wire import bulk_jobs as wire
from flamecrest.wire.compute import SCRIPT_LIMIT

from .shown import show_job
from .specs import KEY_HEADER, idempotency_key, in_list, numbered_spec

AT_ONCE: Final = 8  # commands of one request; they share few connections

router = APIRouter(prefix="/compute/{system_name}/bulk", tags=["compute"], route_class=GatewayRoute, responses=ERRORS)


@router.post("/submit", response_model=wire.BulkJobsResponse, openapi_extra=KEY_HEADER)
@body_limit(SCRIPT_LIMIT)
async def post_bulk_submit(call: Call, body: wire.BulkSubmitRequest) -> Response:
    """Submit many jobs. Each has its own result, in the order of the request. With a key each is submitted once."""
    key = idempotency_key(call)
    specs = [numbered_spec(place, one, key and f"{key}\n{place}") for place, one in enumerate(body.jobs)]
    allowed = await call.allow(Verb.JOBS_SUBMIT)
    scheduler = allowed.scheduler()
    async with scheduler.batch(specs, call.cluster.limits.jobs) as kept:
        found = await _each(call, specs, scheduler.submit)
    return JsonResponse({"results": [_submitted(number, kept.get(one, one)) for number, one in enumerate(found)]})


@router.post("/status", response_model=wire.BulkJobsResponse)
async def post_bulk_status(call: Call, body: wire.BulkJobsRequest) -> Response:
    """Show many jobs with one question to the scheduler."""
    allowed = await call.allow(Verb.JOBS_READ, jobs=tuple(body.job_ids))
    scheduler = allowed.scheduler()
    found = await scheduler.jobs_by_id(body.job_ids, call.deadline)
    return JsonResponse({"results": [_shown(job_id, found[job_id]) for job_id in body.job_ids]})


@router.post("/cancel", response_model=wire.BulkJobsResponse)
async def post_bulk_cancel(call: Call, body: wire.BulkJobsRequest) -> Response:
    """Cancel many jobs."""
    allowed = await call.allow(Verb.JOBS_SUBMIT, jobs=tuple(body.job_ids))
    scheduler = allowed.scheduler()
    return await _all(call, body.job_ids, scheduler.cancel)


@router.post("/hold", response_model=wire.BulkJobsResponse)
async def post_bulk_hold(call: Call, body: wire.BulkJobsRequest) -> Response:
    """Keep many waiting jobs from starting."""
    allowed = await call.allow(Verb.JOBS_SUBMIT, jobs=tuple(body.job_ids))
    scheduler = allowed.scheduler()
    return await _all(call, body.job_ids, lambda job_id, until: scheduler.act(job_id, JobAction.HOLD, until))


@router.post("/release", response_model=wire.BulkJobsResponse)
async def post_bulk_release(call: Call, body: wire.BulkJobsRequest) -> Response:
    """Let many held jobs start."""
    allowed = await call.allow(Verb.JOBS_SUBMIT, jobs=tuple(body.job_ids))
    scheduler = allowed.scheduler()
    return await _all(call, body.job_ids, lambda job_id, until: scheduler.act(job_id, JobAction.RELEASE, until))


async def _all(call: Call, job_ids: Sequence[str], do: Callable[[str, Deadline], Awaitable[None]]) -> Response:
    found = await _each(call, job_ids, do)
    return JsonResponse({"results": [_result(*pair) for pair in zip(job_ids, found, strict=True)]})


async def _each(call: Call, items: Iterable[Any], do: Callable[[Any, Deadline], Awaitable[Any]]) -> list[Any]:
    """The result or the error of each, a few at once.

    Each has the time of a request of its own. When the scheduler does not answer, those that have not begun are not
    tried any more.
    """
    room = asyncio.Semaphore(AT_ONCE)
    silent = False

    async def one(item: Any) -> Any:
        nonlocal silent
        async with room:
            if silent:
                return Unavailable("Not tried: the scheduler did not answer for a job before this one")
            try:
                return await do(item, Deadline.after(call.cluster.limits.jobs))
            except GatewayError as error:
                silent = silent or isinstance(error, (Timeout, Unavailable))
                return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(item)) for item in items]
    return [task.result() for task in tasks]


def _result(job_id: str | None, found: Any, job: Any = None) -> dict[str, Any]:
    """The fields of a wire BulkJobResult."""
    error = None
    if isinstance(found, GatewayError):
        named = [{"location": one.location, "name": one.name, "message": one.message} for one in found.fields]
        error = {
            "status": status_of(found),
            "message": found.public,
            "fields": named or None,
            "kind": found.refusal,
        }
    return {"jobId": job_id, "job": job, "error": error}


def _submitted(number: int, found: Any) -> dict[str, Any]:
    if isinstance(found, GatewayError):
        found.fields = tuple(in_list(number, one) for one in found.fields)
        return _result(None, found)
    return _result(found, found)


def _shown(job_id: str, found: Any) -> dict[str, Any]:
    return _result(job_id, found, None if isinstance(found, GatewayError) else show_job(found))
