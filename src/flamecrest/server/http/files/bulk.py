"""Routes of `/filesystem/{system_name}/bulk`: many files in one request."""

from contextlib import aclosing
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.files.paths import check_removable
from flamecrest.server.files.port import Files
from flamecrest.server.http.core.openapi import ERRORS
from flamecrest.server.http.core.parameters import QueryPath, body_limit
from flamecrest.server.http.core.request_body import RequestBody
from flamecrest.server.http.core.responses import file_stat
from flamecrest.server.http.core.route import Call, FilesRoute
from flamecrest.server.http.headers.accept import acceptable
from flamecrest.wire import bulk as wire

from .archive import (
    ALIASES,
    MEDIA_TYPES,
    ArchiveResponse,
    asked_paths,
    not_acceptable,
    searches_folders,
    unpack_response,
)
from .batch import run_batch

PATHS_LIMIT = 16 * 1024 * 1024  # bytes of a list of paths

router = APIRouter(
    prefix="/filesystem/{system_name}/bulk", tags=["filesystem"], route_class=FilesRoute, responses=ERRORS
)

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_ARCHIVES = dict.fromkeys(MEDIA_TYPES, _BINARY)
_ARCHIVE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The archive, in the media type that Accept prefers",
        "content": dict.fromkeys(MEDIA_TYPES, _BINARY),
    },
    406: {"description": "The system can create none of the accepted media types"},
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": dict.fromkeys(("application/x-tar", "application/gzip", "application/zstd"), _BINARY),
    }
}


@router.post("/download", response_model=None, responses=_ARCHIVE)
@body_limit(PATHS_LIMIT)
async def post_download(call: Call, body: wire.BulkDownloadRequest) -> Response:
    """Download files, directories and the matches of patterns as one archive.

    The header `X-Flamecrest-Missing` counts paths that do not exist. If there are any, or if a file could not be
    read, they are listed in the archive's last entry, `.flamecrest-errors.json`.
    """
    types = acceptable(call.headers.get("accept"), list(MEDIA_TYPES), ALIASES)
    if not types:
        raise not_acceptable()
    asked, links = asked_paths(body.paths, body.base), searches_folders(body.paths)
    allowed = await call.allow(Verb.FILES_READ, *asked, tree=True, through_links=links)
    for path in body.paths:
        allowed.bulk(paths=path)
    bulk = allowed.bulk() if body.base is None else allowed.bulk(base=body.base)
    selection = await bulk.select(body.paths, body.base, call.deadline)
    return ArchiveResponse(bulk, selection, types, call.deadline)


@router.post("/upload", response_model=wire.BulkUploadResponse, openapi_extra=_BODY)
async def post_upload(call: Call, path: QueryPath, setuid: bool = False) -> Response:
    """Unpack a tar archive (plain, gzip or zstd) into the directory `path`. Entries outside of it are refused."""
    allowed = await call.allow(Verb.FILES_WRITE, path, tree=True)
    bulk = allowed.bulk(path=path)
    body = RequestBody(call, timeout=call.cluster.limits.files)
    async with aclosing(body.chunks()) as chunks:
        return unpack_response(await bulk.unpack(path, chunks, call.deadline, setuid=setuid))


@router.post("/stat", response_model=wire.BulkResponse)
@body_limit(PATHS_LIMIT)
async def post_stat(call: Call, body: wire.BulkStatRequest) -> Response:
    """Show the attributes of many files; each has its own result."""

    async def stat(files: Files, path: str, item: wire.StatItem) -> dict[str, int]:
        return file_stat(await files.queries.stat(path, call.deadline, follow=item.dereference))

    return await run_batch(call, Verb.FILES_READ, body.items, stat)


@router.post("/rm", response_model=wire.BulkResponse)
@body_limit(PATHS_LIMIT)
async def post_rm(call: Call, body: wire.BulkRmRequest) -> Response:
    """Remove many files and directories; each has its own result."""

    async def rm(files: Files, path: str, _: wire.BulkItem) -> None:
        check_removable(path, call.cluster.roots)
        await files.changes.rm(path, call.deadline)

    return await run_batch(call, Verb.FILES_WRITE, body.items, rm, status=204, order=-1, tree=True)


@router.post("/chmod", response_model=wire.BulkResponse)
@body_limit(PATHS_LIMIT)
async def post_chmod(call: Call, body: wire.BulkChmodRequest) -> Response:
    """Change the modes of many files; each has its own result."""

    async def chmod(files: Files, path: str, item: wire.ChmodItem) -> None:
        await files.changes.chmod(path, item.mode, call.deadline)

    return await run_batch(call, Verb.FILES_WRITE, body.items, chmod)


@router.post("/mkdir", response_model=wire.BulkResponse)
@body_limit(PATHS_LIMIT)
async def post_mkdir(call: Call, body: wire.BulkMkdirRequest) -> Response:
    """Create many directories, parents first; each has its own result."""

    async def mkdir(files: Files, path: str, item: wire.MkdirItem) -> None:
        await files.changes.mkdir(path, call.deadline, parents=item.parent)

    return await run_batch(call, Verb.FILES_WRITE, body.items, mkdir, status=201, order=1)
