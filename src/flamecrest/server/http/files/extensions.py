"""Routes of `/filesystem/{system_name}/ops` that FirecREST v2 does not have."""

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
    """Rename a file or directory atomically, within one file system; `transfer/mv` moves between file systems."""
    allowed = await call.allow(Verb.FILES_WRITE, body.path, body.target_path, tree=True)
    files = allowed.files(**body.paths)
    await files.changes.mv(body.path, body.target_path, call.deadline, overwrite=body.overwrite)
    return JsonResponse({"output": file_entry(await files.queries.entry(body.target_path, call.deadline))})


@router.post("/cp", status_code=201, response_model=wire.OpsFileResponse)
async def post_cp(call: Call, body: wire.OpsCpRequest, timeout: TimeoutSeconds = None) -> Response:  # noqa: ASYNC109
    """Copy a file or directory on the system, by reference if the file system supports it."""
    request_timeout = RequestTimeout(call, timeout, _CP_JOB)
    allowed = await call.allow(
        Verb.FILES_WRITE, body.target_path, sources=(body.path,), tree=True, through_links=body.dereference
    )
    files = allowed.files(**body.paths)
    async with request_timeout.enforce() as deadline:
        await files.changes.cp(
            body.path, body.target_path, deadline, overwrite=body.overwrite, dereference=body.dereference
        )
        return JsonResponse({"output": file_entry(await files.queries.entry(body.target_path, deadline))}, 201)


@router.post("/touch", response_model=wire.OpsFileResponse)
async def post_touch(call: Call, body: wire.OpsTouchRequest) -> Response:
    """Create an empty file, or set the modification time of an existing path."""
    allowed = await call.allow(Verb.FILES_WRITE, body.path)
    files = allowed.files(**body.paths)
    await files.changes.touch(body.path, call.deadline, mtime=body.mtime)
    return JsonResponse({"output": file_entry(await files.queries.entry(body.path, call.deadline))})


@router.post("/truncate", response_model=wire.OpsFileResponse)
async def post_truncate(call: Call, body: wire.OpsTruncateRequest) -> Response:
    """Set the size of a file in bytes; a file that becomes longer is extended with zeros."""
    allowed = await call.allow(Verb.FILES_WRITE, body.path)
    files = allowed.files(**body.paths)
    await files.changes.truncate(body.path, body.size, call.deadline)
    return JsonResponse({"output": file_entry(await files.queries.entry(body.path, call.deadline))})


@router.get("/df", response_model=wire.GetDfResponse)
async def get_df(call: Call, path: QueryPath) -> Response:
    """Show size and usage of the file system of a path, and the quotas that apply to the caller there.

    These are the user's quota and that of one group: for a file its group, for a directory the group of new files
    in it (the directory's own if it is set-group-ID, else the caller's).
    """
    allowed = await call.allow(Verb.FILES_READ, path)
    files = allowed.files(path=path)
    space = await files.queries.df(path, call.deadline)
    output = {"total": space.total, "free": space.free, "available": space.available, "files": space.files}
    more = {"filesFree": space.files_free, "readOnly": space.read_only, "quota": _quotas(space.quota)}
    return JsonResponse({"output": output | more})


@router.get("/du", response_model=wire.GetDuResponse)
async def get_du(call: Call, path: QueryPath, timeout: TimeoutSeconds = None) -> Response:  # noqa: ASYNC109
    """Show the disk usage of a file or directory tree. A file with several names counts once."""
    request_timeout = RequestTimeout(call, timeout)
    allowed = await call.allow(Verb.FILES_READ, path, tree=True)
    files = allowed.files(path=path)
    async with request_timeout.enforce() as deadline:
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
