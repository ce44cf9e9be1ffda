"""Routes of `/compute`. Each converts between the wire and the Scheduler port."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.http.core.openapi import ERRORS
from flamecrest.server.http.core.parameters import AccountName, JobId, body_limit
from flamecrest.server.http.core.responses import JsonResponse, no_content
from flamecrest.server.http.core.route import Call, GatewayRoute
from flamecrest.server.http.core.shared_answers import NOT_MODIFIED, Encoded, SharedResponse, WaitTime, wait_for_change
from flamecrest.server.http.jobs import filters, output
from flamecrest.server.http.jobs.copies import cancel_job, find_job
from flamecrest.server.http.jobs.events import JOB_EVENTS, job_events
from flamecrest.server.http.jobs.filters import JobsRequest
from flamecrest.server.http.jobs.output_events import FollowStart
from flamecrest.server.http.jobs.shown import show_job
from flamecrest.server.http.jobs.specs import KEY_HEADER, idempotency_key, job_spec
from flamecrest.server.schedulers.port import JobLookup
from flamecrest.server.schedulers.values import JobMetadata
from flamecrest.wire import compute as wire
from flamecrest.wire.job_options import SignalName
from flamecrest.wire.text import Word

router = APIRouter(prefix="/compute/{system_name}/jobs", tags=["compute"], route_class=GatewayRoute, responses=ERRORS)


@router.get("/events", response_model=None, responses=dict(JOB_EVENTS))
async def get_job_events(call: Call) -> Response:
    """Send an event for each of the caller's jobs whose state changes, first for those that have not ended."""
    return await job_events(call)


@router.get("/{job_id}", response_model=wire.GetJobResponse, responses=NOT_MODIFIED)
async def get_job(call: Call, job_id: JobId, wait: WaitTime = None) -> Response:
    """Show a job; of a job array all its tasks. With `wait` and `If-None-Match`: as soon as it has changed."""
    allowed = await call.allow(Verb.JOBS_READ, jobs=(job_id,))

    async def read(jobs: JobLookup, deadline: Deadline) -> Encoded:
        return Encoded.of_list("jobs", await find_job(call, jobs, job_id, deadline), show_job)

    return await wait_for_change(call, wait, lambda: allowed.job_lookup(job_id), read)


@router.get("", response_model=wire.GetJobResponse, responses=NOT_MODIFIED)
async def get_jobs(
    call: Call,
    allusers: bool = False,
    account: AccountName = None,
    name: Annotated[Word | None, Query(max_length=235)] = None,
    time_window: wire.JobsTimeWindow = wire.JobsTimeWindow.DAY,
    state: filters.States = None,
    ids: filters.Ids = None,
    partition: filters.PartitionName = None,
    user: filters.UserName = None,
    since: filters.Since = None,
    sort: filters.Sort = None,
    limit: filters.Limit = None,
    cursor: filters.Cursor = None,
) -> Response:
    """List the jobs of a time window: the caller's, or with `allusers` all that the caller may see.

    The filters add up. With `limit` the answer is a page, and its `nextCursor` is the `cursor` of the next.
    """
    request = JobsRequest.of(
        allusers=allusers, account=account, name=name, window=time_window.seconds,
        state=state, ids=ids, partition=partition, user=user, since=since, sort=sort, limit=limit, cursor=cursor,
    )  # fmt: skip
    allowed = await call.allow(Verb.JOBS_READ)
    scheduler = allowed.scheduler()
    return SharedResponse(call, await request.read(call, scheduler), scheduler.age)


@router.get("/{job_id}/output", response_model=None, responses=output.OUTPUT_RESPONSES)
async def get_job_output(
    call: Call,
    job_id: JobId,
    stream: output.Stream = "stdout",
    follow: bool = False,
    last_bytes: output.LastBytes = None,
    last_lines: output.LastLines = None,
    offset: output.Offset = None,
) -> Response:
    """Read a job's output, whole or in parts (`Range`); empty while the job has not begun to write it.

    With `follow` the response is a stream of server-sent events that ends with the job. `Last-Event-ID` resumes it. It
    begins with the output, or where `bytes`, `lines` or `offset` says.
    """
    start = FollowStart.of(last_bytes, last_lines, offset, follow=follow)
    return await output.job_output(call, job_id, stream, start, follow=follow)


@router.post("", status_code=201, response_model=wire.PostJobSubmissionResponse, openapi_extra=KEY_HEADER)
@body_limit(wire.SCRIPT_LIMIT)
async def post_job(call: Call, body: wire.PostJobSubmitRequest) -> Response:
    """Submit a job: exactly one of `script` and `scriptPath` must be given. With a key it is submitted once."""
    spec = job_spec(body.job, idempotency_key(call))
    allowed = await call.allow(Verb.JOBS_SUBMIT)
    scheduler = allowed.scheduler()
    return JsonResponse({"jobId": await scheduler.submit(spec, call.deadline)}, 201)


@router.delete("/{job_id}", status_code=204, response_model=None)
async def delete_job(call: Call, job_id: JobId, signal: Annotated[SignalName | None, Query()] = None) -> Response:
    """Cancel a job; with `signal` send that signal to a running job instead. A finished job is not changed."""
    allowed = await call.allow(Verb.JOBS_SUBMIT, jobs=(job_id,))
    if signal is not None:
        await allowed.scheduler().signal(job_id, signal, call.deadline)
    else:
        await cancel_job(call, allowed.job_lookup(job_id), job_id)
    return no_content()


@router.get("/{job_id}/metadata", response_model=wire.GetJobMetadataResponse)
async def get_job_metadata(call: Call, job_id: JobId) -> Response:
    """Show the script and the standard files of a job."""
    allowed = await call.allow(Verb.JOBS_READ, jobs=(job_id,))
    jobs = allowed.job_lookup(job_id)
    return JsonResponse({"jobs": [_metadata(one) for one in await jobs.metadata(job_id, call.deadline)]})


@router.put("/{job_id}/attach", status_code=204, response_model=None)
async def put_attach(call: Call, job_id: JobId, body: wire.PostJobAttachRequest) -> Response:
    """Run a command inside a running job."""
    allowed = await call.allow(Verb.JOBS_SUBMIT, jobs=(job_id,))
    scheduler = allowed.scheduler()
    await scheduler.attach(job_id, body.command, call.deadline)
    return no_content()


def _metadata(one: JobMetadata) -> dict[str, Any]:
    """The fields of a wire JobMetadataModel."""
    return {
        "jobId": one.id,
        "script": one.script,
        "standardInput": one.standard_input,
        "standardOutput": one.standard_output,
        "standardError": one.standard_error,
    }
