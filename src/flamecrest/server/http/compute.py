"""Routes of `/compute`. Each converts between the wire and the Scheduler port."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import Field, Invalid
from flamecrest.server.http.core.openapi import ERRORS
from flamecrest.server.http.core.parameters import AccountName, JobId, body_limit
from flamecrest.server.http.core.responses import JsonResponse, no_content
from flamecrest.server.http.core.route import Call, GatewayRoute
from flamecrest.server.schedulers.values import Job, JobMetadata, JobSpec, JobTimes
from flamecrest.wire import compute as wire
from flamecrest.wire.text import Word

SCRIPT_LIMIT: Final = 16 * 1024 * 1024  # bytes of a submission; job scripts may contain data

router = APIRouter(prefix="/compute/{system_name}/jobs", tags=["compute"], route_class=GatewayRoute, responses=ERRORS)


@router.get("/{job_id}", response_model=wire.GetJobResponse)
async def get_job(call: Call, job_id: JobId) -> Response:
    """Show a job; of a job array all its tasks."""
    allowed = await call.allow(Verb.JOBS_READ)
    scheduler = allowed.scheduler()
    return JsonResponse({"jobs": [_job(job) for job in await scheduler.job(job_id, call.deadline)]})


@router.get("", response_model=wire.GetJobResponse)
async def get_jobs(
    call: Call,
    allusers: bool = False,
    account: AccountName = None,
    name: Annotated[Word | None, Query(max_length=235)] = None,
    time_window: wire.JobsTimeWindow = wire.JobsTimeWindow.DAY,
) -> Response:
    """List the jobs of a time window: the caller's, or with `allusers` all that the caller may see."""
    allowed = await call.allow(Verb.JOBS_READ)
    scheduler = allowed.scheduler()
    jobs = await scheduler.jobs(
        all_users=allusers,
        account=account or None,
        name=name or None,
        window=time_window.seconds,
        deadline=call.deadline,
    )
    return JsonResponse({"jobs": [_job(job) for job in jobs]})


@router.post("", status_code=201, response_model=wire.PostJobSubmissionResponse)
@body_limit(SCRIPT_LIMIT)
async def post_job(call: Call, body: wire.PostJobSubmitRequest) -> Response:
    """Submit a job: exactly one of `script` and `scriptPath` must be given."""
    spec = _spec(body.job)
    allowed = await call.allow(Verb.JOBS_SUBMIT)
    scheduler = allowed.scheduler()
    return JsonResponse({"jobId": await scheduler.submit(spec, call.deadline)}, 201)


@router.delete("/{job_id}", status_code=204, response_model=None)
async def delete_job(call: Call, job_id: JobId) -> Response:
    """Cancel a job. A finished job is not changed."""
    allowed = await call.allow(Verb.JOBS_SUBMIT)
    scheduler = allowed.scheduler()
    await scheduler.cancel(job_id, call.deadline)
    return no_content()


@router.get("/{job_id}/metadata", response_model=wire.GetJobMetadataResponse)
async def get_job_metadata(call: Call, job_id: JobId) -> Response:
    """Show the script and the standard files of a job."""
    allowed = await call.allow(Verb.JOBS_READ)
    scheduler = allowed.scheduler()
    return JsonResponse({"jobs": [_metadata(one) for one in await scheduler.metadata(job_id, call.deadline)]})


@router.put("/{job_id}/attach", status_code=204, response_model=None)
async def put_attach(call: Call, job_id: JobId, body: wire.PostJobAttachRequest) -> Response:
    """Run a command inside a running job."""
    allowed = await call.allow(Verb.JOBS_SUBMIT)
    scheduler = allowed.scheduler()
    await scheduler.attach(job_id, body.command, call.deadline)
    return no_content()


def _spec(job: wire.JobDescriptionModel) -> JobSpec:
    """Convert a job from the wire; empty texts count as missing. Raises Invalid."""
    if bool(job.script) == bool(job.script_path):
        message = "exactly one of `script` and `scriptPath` must be given"
        raise Invalid(f"`script`: {message}", fields=(Field("body", "script", message),))
    return JobSpec(
        working_directory=job.working_directory,
        script=job.script or None,
        script_path=job.script_path or None,
        name=job.name or None,
        account=job.account or None,
        partition=job.partition or None,
        reservation=job.reservation or None,
        constraints=job.constraints or None,
        standard_input=job.standard_input or None,
        standard_output=job.standard_output or None,
        standard_error=job.standard_error or None,
        env=job.env,
    )


def _status(state: str, reason: str | None, exit_code: int | None, signal: int | None) -> dict[str, Any]:
    return {"state": state, "stateReason": reason, "exitCode": exit_code, "interruptSignal": signal}


def _time(times: JobTimes) -> dict[str, Any]:
    return {
        "elapsed": times.elapsed,
        "start": times.start,
        "end": times.end,
        "suspended": times.suspended,
        "limit": times.limit,
    }


def _job(job: Job) -> dict[str, Any]:
    """The fields of a wire JobModel."""
    return {
        "jobId": job.id,
        "name": job.name,
        "status": _status(job.state, job.reason, job.exit_code, job.signal),
        "tasks": [
            {
                "id": step.id,
                "name": step.name,
                "status": _status(step.state, None, step.exit_code, step.signal),
                "time": _time(step.times),
            }
            for step in job.steps
        ],
        "time": _time(job.times),
        "account": job.account,
        "allocationNodes": job.node_count,
        "cluster": job.cluster,
        "group": job.group,
        "nodes": job.nodes,
        "partition": job.partition,
        "killRequestUser": job.kill_request_user,
        "user": job.user,
        "workingDirectory": job.working_directory,
        "priority": job.priority,
    }


def _metadata(one: JobMetadata) -> dict[str, Any]:
    """The fields of a wire JobMetadataModel."""
    return {
        "jobId": one.id,
        "script": one.script,
        "standardInput": one.standard_input,
        "standardOutput": one.standard_output,
        "standardError": one.standard_error,
    }
