"""Routes that check, steer and change jobs. Each converts between the wire and the Scheduler port."""

from fastapi import APIRouter
from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.http.core.openapi import ERRORS
from flamecrest.server.http.core.parameters import JobId, body_limit
from flamecrest.server.http.core.responses import JsonResponse, no_content
from flamecrest.server.http.core.route import Call, GatewayRoute
from flamecrest.server.schedulers.values import JobAction
from flamecrest.wire import job_options as wire
from flamecrest.wire.compute import SCRIPT_LIMIT, PostJobSubmitRequest

from .specs import job_change, job_spec

router = APIRouter(prefix="/compute/{system_name}/jobs", tags=["compute"], route_class=GatewayRoute, responses=ERRORS)


@router.post("/validate", response_model=wire.PostJobCheckResponse)
@body_limit(SCRIPT_LIMIT)
async def post_validate(call: Call, body: PostJobSubmitRequest) -> Response:
    """Check whether the scheduler would accept a job, and estimate its start. Nothing is submitted."""
    spec = job_spec(body.job)
    allowed = await call.allow(Verb.JOBS_SUBMIT)
    scheduler = allowed.scheduler()
    found = await scheduler.check(spec, call.deadline)
    return JsonResponse({"start": found.start, "partition": found.partition, "nodes": found.nodes, "cpus": found.cpus})


@router.patch("/{job_id}", status_code=204, response_model=None)
async def patch_job(call: Call, job_id: JobId, body: wire.PatchJobRequest) -> Response:
    """Change the given fields of a job; the others stay as they are."""
    change = job_change(body)
    allowed = await call.allow(Verb.JOBS_SUBMIT, jobs=(job_id,))
    scheduler = allowed.scheduler()
    await scheduler.change(job_id, change, call.deadline)
    return no_content()


@router.post("/{job_id}/hold", status_code=204, response_model=None)
async def post_hold(call: Call, job_id: JobId) -> Response:
    """Keep a waiting job from starting."""
    return await _act(call, job_id, JobAction.HOLD)


@router.post("/{job_id}/release", status_code=204, response_model=None)
async def post_release(call: Call, job_id: JobId) -> Response:
    """Let a held job start."""
    return await _act(call, job_id, JobAction.RELEASE)


@router.post("/{job_id}/requeue", status_code=204, response_model=None)
async def post_requeue(call: Call, job_id: JobId) -> Response:
    """Stop a running job and put it into the queue again."""
    return await _act(call, job_id, JobAction.REQUEUE)


@router.post("/{job_id}/suspend", status_code=204, response_model=None)
async def post_suspend(call: Call, job_id: JobId) -> Response:
    """Stop a running job for a while. Most schedulers let only administrators do this."""
    return await _act(call, job_id, JobAction.SUSPEND)


@router.post("/{job_id}/resume", status_code=204, response_model=None)
async def post_resume(call: Call, job_id: JobId) -> Response:
    """Let a suspended job continue."""
    return await _act(call, job_id, JobAction.RESUME)


@router.post("/{job_id}/signal", status_code=204, response_model=None)
async def post_signal(call: Call, job_id: JobId, body: wire.PostJobSignalRequest) -> Response:
    """Send a signal to the processes of a running job."""
    allowed = await call.allow(Verb.JOBS_SUBMIT, jobs=(job_id,))
    scheduler = allowed.scheduler()
    await scheduler.signal(job_id, body.signal, call.deadline)
    return no_content()


async def _act(call: Call, job_id: str, action: JobAction) -> Response:
    allowed = await call.allow(Verb.JOBS_SUBMIT, jobs=(job_id,))
    scheduler = allowed.scheduler()
    await scheduler.act(job_id, action, call.deadline)
    return no_content()
