"""Routes that list, show, cancel and retry transfers, synchronize and copy: between the wire and TrackedTransfers."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.cluster import Cluster
from flamecrest.server.errors import Conflict
from flamecrest.server.http.core.openapi import ERRORS
from flamecrest.server.http.core.parameters import body_limit
from flamecrest.server.http.core.responses import JsonResponse, no_content
from flamecrest.server.http.core.route import Call, FilesRoute
from flamecrest.server.http.jobs.copies import cancel_transfer, settled, target_transfers
from flamecrest.server.http.jobs.specs import KEY_HEADER
from flamecrest.server.schedulers.values import JobSpec
from flamecrest.server.transfer.port import StartedTransfer
from flamecrest.server.transfer.tracking.port import PlannedStep, SyncPlan, SyncRequest, TrackedTransfers, TransferView
from flamecrest.wire import tracked_transfers as wire
from flamecrest.wire.compute import SCRIPT_LIMIT
from flamecrest.wire.text import is_plain, percent_encode
from flamecrest.wire.transfer import UploadFileResponse

from .following import following_spec
from .once import once
from .routes import started, submitted

CURSOR: Final = r"^transfer-[a-z]{26}$"
MOST_STEPS: Final = 1000  # of a plan
router = APIRouter(
    prefix="/filesystem/{system_name}/transfer", tags=["filesystem"], route_class=FilesRoute, responses=ERRORS
)
TransferId = Annotated[
    str,
    Path(
        description="The id of a transfer, or of its scheduler job",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-\[\],%+]{0,127}$",
    ),
]

_PLAN: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": wire.SyncTransferResponse, "description": "The plan, with `dryRun`"}
}


@router.get("", response_model=wire.TransferListResponse)
async def get_transfers(
    call: Call,
    limit: Annotated[int, Query(ge=1, le=100, description="Length of a page")] = 50,
    cursor: Annotated[str | None, Query(pattern=CURSOR, description="The `nextCursor` of the page before")] = None,
) -> Response:
    """List the caller's transfers on this system of the last month, of every method, the newest first."""
    tracked = (await call.allow(Verb.TRANSFER)).tracked_transfers()
    found = await tracked.list(limit, cursor, call.deadline)
    following = found[-1].id if len(found) == limit else None
    shown = [_shown(call.cluster, one) for one in found]
    return JsonResponse({"transfers": shown, "nextCursor": following})


@router.post(
    "/sync", status_code=201, response_model=wire.SyncTransferResponse, responses=_PLAN, openapi_extra=KEY_HEADER
)
@body_limit(SCRIPT_LIMIT)
async def post_sync(call: Call, body: wire.SyncTransferRequest) -> Response:
    """Make a folder like another, here or on another system: only what differs moves."""
    allowed = await call.allow(Verb.TRANSFER, body.path, tree=True)
    source, request = allowed.tracked_transfers(**{body.sent_as("path"): body.path}), _sync_request(body)
    target, then = await _target(call, body, removes=body.delete)
    if body.dry_run:
        plan = await source.plan(request, target, MOST_STEPS, call.deadline)
        return JsonResponse({"transferJob": None, "plan": _plan(plan)}, 200)

    async def start() -> dict[str, Any]:
        return {**submitted(call.cluster, await source.sync(request, target, call.deadline, then)), "plan": None}

    return await once(call, allowed, body, start)


@router.post("/copy", status_code=201, response_model=wire.CopyTransferResponse, openapi_extra=KEY_HEADER)
@body_limit(SCRIPT_LIMIT)
async def post_copy(call: Call, body: wire.CopyTransferRequest) -> Response:
    """Copy a file or folder to another system."""
    allowed = await call.allow(Verb.TRANSFER, body.path, tree=True)
    source, account = allowed.tracked_transfers(**{body.sent_as("path"): body.path}), body.account or None
    target, then = await _target(call, body)

    async def start() -> dict[str, Any]:
        job = await source.copy(body.path, body.target_path, target, call.deadline, then, account)
        return submitted(call.cluster, job)

    return await once(call, allowed, body, start)


@router.get("/{transfer_id}", response_model=wire.TransferResponse)
async def get_transfer(call: Call, transfer_id: TransferId) -> Response:
    """Show a transfer: its state, how far it is, and what went wrong."""
    return JsonResponse({"transfer": _shown(call.cluster, await _seen(call, transfer_id))})


@router.delete("/{transfer_id}", status_code=204, response_model=None)
async def delete_transfer(call: Call, transfer_id: TransferId) -> Response:
    """Cancel a transfer and remove what is not finished. One that has ended stays as it is."""
    tracked = (await call.allow(Verb.TRANSFER, jobs=(transfer_id,))).tracked_transfers()
    await cancel_transfer(call, tracked, transfer_id)
    return no_content()


@router.post("/{transfer_id}/retry", status_code=201, response_model=UploadFileResponse | wire.CopyTransferResponse)
async def post_retry(call: Call, transfer_id: TransferId) -> Response:
    """Go on with a transfer that has not succeeded, as a new one; an upload that goes on gets new URLs."""
    view = await _retriable(call, transfer_id)
    allowed = await call.allow(Verb.TRANSFER, view.path, tree=True)
    source = allowed.tracked_transfers(path=view.path)
    target = source
    if view.target is not None:
        target = await target_transfers(call, view.target_system, view.target, call.deadline, removes=view.deletes)
    again = await source.retry(view.id, target, call.deadline)
    shown = started(call, view.path, again) if isinstance(again, StartedTransfer) else submitted(call.cluster, again)
    return JsonResponse(shown, 201)


async def _retriable(call: Call, transfer_id: str) -> TransferView:
    """A transfer. Raises Conflict for one whose record was damaged."""
    view = await _seen(call, transfer_id)
    if view.method is None:
        raise Conflict(f"{view.error}. {view.hint or ''}".strip())
    return view


async def _seen(call: Call, transfer_id: str) -> TransferView:
    """A transfer, as it stands on both systems."""
    tracked = (await call.allow(Verb.TRANSFER, jobs=(transfer_id,))).tracked_transfers()
    return await settled(call, tracked, await tracked.get(transfer_id, call.deadline), call.deadline)


def _sync_request(body: wire.SyncTransferRequest) -> SyncRequest:
    checksum = body.compare == "checksum"
    return SyncRequest(body.path, body.target_path, checksum, body.delete, body.include, body.exclude)


async def _target(
    call: Call, body: wire.SyncTransferRequest | wire.CopyTransferRequest, *, removes: bool = False
) -> tuple[TrackedTransfers, JobSpec | None]:
    """The transfers on the target's system, and the job for it. Both need the caller's permission there."""
    system, name = body.target_system, body.sent_as("target_path")
    target = await target_transfers(call, system, body.target_path, call.deadline, name=name, removes=removes)
    if body.then_submit is None:
        return target, None
    cluster = call.cluster if system is None else call.gateway.cluster(system)
    return target, await following_spec(call, cluster, body.then_submit)


def _shown(cluster: Cluster, one: TransferView) -> dict[str, Any]:
    """The fields of a wire.TransferModel."""
    paths = {"path": one.path, "targetPath": one.target}
    plain = all(is_plain(path) for path in paths.values() if path is not None)
    if not plain:
        paths = {name: None if path is None else percent_encode(path) for name, path in paths.items()}
    return {
        "id": one.id,
        "method": one.method,
        "direction": one.direction,
        "state": one.state,
        "system": cluster.name,
        **paths,
        "targetSystem": one.target_system,
        "jobId": one.job_id,
        "created": one.created,
        "ended": one.ended,
        "expires": one.expires,
        "bytesDone": one.done,
        "bytesTotal": one.total,
        "filesDone": one.files,
        "rate": one.rate,
        "secondsLeft": one.remaining,
        "etag": one.etag,
        "sha256": one.sha256,
        "stateReason": one.reason,
        "error": one.error,
        "hint": one.hint,
        "thenJobId": one.then_job_id,
        "logs": {"outputLog": one.output_log, "errorLog": one.error_log},
        "encoding": None if plain else "percent",
    }


def _plan(plan: SyncPlan) -> dict[str, Any]:
    """The fields of a wire.SyncPlanModel."""
    return {"steps": [_step(one) for one in plan.steps], "counts": plan.counts, "bytes": plan.bytes}


def _step(one: PlannedStep) -> dict[str, Any]:
    plain = is_plain(one.path)
    return {
        "action": one.action,
        "path": one.path if plain else percent_encode(one.path),
        "type": one.kind,
        "size": one.size,
        "reason": one.reason,
        "encoding": None if plain else "percent",
    }
