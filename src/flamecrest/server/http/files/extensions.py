"""Routes of `/filesystem/{system_name}/ops` that FirecREST v2 does not have: from wire to Files and back."""

from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.files.values import OwnerQuota, PathQuotas, QuotaUsage
from flamecrest.server.http.core.openapi import ERRORS
from flamecrest.server.http.core.parameters import QueryPath
from flamecrest.server.http.core.responses import JsonResponse, file_entry
from flamecrest.server.http.core.route import Call, FilesRoute
from flamecrest.wire import operations as wire

from .request_timeout import RequestTimeout, TimeoutSeconds

router = APIRouter(
    prefix="/filesystem/{system_name}/ops", tags=["filesystem"], route_class=FilesRoute, responses=ERRORS
)

_CP_JOB: Final = "POST /filesystem/{system}/transfer/cp"


@router.post("/mv", response_model=wire.OpsFileResponse)
async def post_mv(call: Call, body: wire.OpsMvRequest) -> Response:
    """Rename a file or folder, atomically, within one file system (see transfer/mv for others)."""
    allowed = await call.allow(Verb.FILES_WRITE)
    files = allowed.files(sourcePath=body.path, targetPath=body.target_path)
    await files.changes.mv(body.path, body.target_path, call.deadline, overwrite=body.overwrite)
    return JsonResponse({"output": file_entry(await files.queries.entry(body.target_path, call.deadline))})


@router.post("/cp", status_code=201, response_model=wire.OpsFileResponse)
async def post_cp(call: Call, body: wire.OpsCpRequest, timeout: TimeoutSeconds = None) -> Response:  # noqa: ASYNC109
    """Copy a file or folder on the cluster, by reference where its file system can."""
    patience = RequestTimeout(call, timeout, _CP_JOB)
    allowed = await call.allow(Verb.FILES_WRITE)
    files = allowed.files(sourcePath=body.path, targetPath=body.target_path)
    async with patience.limited() as deadline:
        await files.changes.cp(
            body.path, body.target_path, deadline, overwrite=body.overwrite, dereference=body.dereference
        )
        return JsonResponse({"output": file_entry(await files.queries.entry(body.target_path, deadline))}, 201)


@router.post("/touch", response_model=wire.OpsFileResponse)
async def post_touch(call: Call, body: wire.OpsTouchRequest) -> Response:
    """Make an empty file, or set the time of what is there."""
    allowed = await call.allow(Verb.FILES_WRITE)
    files = allowed.files(sourcePath=body.path)
    await files.changes.touch(body.path, call.deadline, mtime=body.mtime)
    return JsonResponse({"output": file_entry(await files.queries.entry(body.path, call.deadline))})


@router.post("/truncate", response_model=wire.OpsFileResponse)
async def post_truncate(call: Call, body: wire.OpsTruncateRequest) -> Response:
    """Cut a file to a number of bytes, or extend it with zeros."""
    allowed = await call.allow(Verb.FILES_WRITE)
    files = allowed.files(sourcePath=body.path)
    await files.changes.truncate(body.path, body.size, call.deadline)
    return JsonResponse({"output": file_entry(await files.queries.entry(body.path, call.deadline))})


@router.get("/df", response_model=wire.GetDfResponse)
async def get_df(call: Call, path: QueryPath) -> Response:
    """Say how full the file system is that a path is on, and what the quotas of the caller and a group there are.

    The quotas are those that count when the caller writes at the path: the user's, and that of the group which new
    files in a folder get (the folder's own if it is set-group-ID, else the caller's) or which the file has.
    """
    allowed = await call.allow(Verb.FILES_READ)
    files = allowed.files(path=path)
    space = await files.queries.df(path, call.deadline)
    output = {"total": space.total, "free": space.free, "available": space.available, "files": space.files}
    more = {"filesFree": space.files_free, "readOnly": space.read_only, "quota": _quotas(space.quota)}
    return JsonResponse({"output": output | more})


@router.get("/du", response_model=wire.GetDuResponse)
async def get_du(call: Call, path: QueryPath, timeout: TimeoutSeconds = None) -> Response:  # noqa: ASYNC109
    """Say what a file or tree holds, in bytes and entries; a file with several names counts once."""
    patience = RequestTimeout(call, timeout)
    allowed = await call.allow(Verb.FILES_READ)
    files = allowed.files(path=path)
    async with patience.limited() as deadline:
        usage = await files.queries.du(path, deadline)
    output = {"size": usage.size, "allocated": usage.allocated, "entries": usage.entries, "complete": usage.complete}
    return JsonResponse({"output": output})


def _quotas(quotas: PathQuotas | None) -> dict[str, Any] | None:
    return None if quotas is None else {"user": _quota(quotas.user), "group": _quota(quotas.group)}


def _quota(quota: OwnerQuota | None) -> dict[str, Any] | None:
    if quota is None:
        return None
    return {"name": quota.name, "space": _allowance(quota.space), "files": _allowance(quota.files)}


def _allowance(one: QuotaUsage) -> dict[str, int | None]:
    return {"used": one.used, "soft": one.soft, "hard": one.hard, "graceUntil": one.grace_until}
