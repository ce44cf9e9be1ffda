"""Routes of `/filesystem/{system_name}/ops`: from wire to Files and back, a few lines each."""

import posixpath
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.files.values import ChecksumAlgorithm, CompressOptions, ListOptions
from flamecrest.server.http.core.openapi import (
    DOWNLOAD_RESPONSES,
    ERRORS,
    HEAD_RESPONSES,
    PUT_RESPONSES,
    RAW_BODY,
    UPLOAD_BODY,
)
from flamecrest.server.http.core.parameters import QueryPath
from flamecrest.server.http.core.responses import JsonResponse, file_entry, file_stat, no_content
from flamecrest.server.http.core.route import Call, FilesRoute
from flamecrest.wire import filesystem as wire

from . import listing
from .download import DownloadResponse
from .excerpt import Excerpt, view_slice
from .put import FilePut, Fsync, Mode, ModificationTime, Parents
from .relative_link import link_target
from .request_timeout import RequestTimeout, TimeoutSeconds
from .tail import TAIL_RESPONSES, follow_tail
from .upload_form import UploadFormReader

router = APIRouter(
    prefix="/filesystem/{system_name}/ops", tags=["filesystem"], route_class=FilesRoute, responses=ERRORS
)

Count = Annotated[int, Field(ge=1, le=2**63 - 1)]


@router.get("/stat", response_model=wire.GetFileStatResponse)
async def get_stat(call: Call, path: QueryPath, dereference: bool = False) -> Response:
    """Show the attributes of a file."""
    allowed = await call.allow(Verb.FILES_READ)
    files = allowed.files(path=path)
    return JsonResponse({"output": file_stat(await files.queries.stat(path, call.deadline, follow=dereference))})


@router.head("/download", response_model=None, responses=HEAD_RESPONSES)
@router.get("/download", response_model=None, responses=DOWNLOAD_RESPONSES)
async def get_download(call: Call, path: QueryPath) -> Response:
    """Download a file (of max_ops_file_size bytes at most), or parts of it (Range), or only if it changed (If-…)."""
    allowed = await call.allow(Verb.FILES_READ)
    files = allowed.files(path=path)
    return DownloadResponse(files, path, call.deadline, call.cluster.limits.max_ops_file_size)


@router.get("/ls", response_model=wire.GetDirectoryLsResponse, responses=listing.LISTING_RESPONSES)
async def get_ls(
    call: Call,
    path: QueryPath,
    show_hidden: Annotated[bool, Query(alias="showHidden")] = False,
    numeric_uid: Annotated[bool, Query(alias="numericUid")] = False,
    recursive: bool = False,
    dereference: bool = False,
    glob: listing.Glob = None,
    sort: listing.Sort = None,
    kinds: listing.Kinds = None,
    limit: listing.Limit = None,
    cursor: listing.Cursor = None,
) -> Response:
    """List a directory, or a file itself: all of it, what is chosen, in pages, or line by line (NDJSON by Accept)."""
    asked = listing.ListingRequest.of(glob, sort, kinds, limit, cursor)
    allowed = await call.allow(Verb.FILES_READ)
    files = allowed.files(path=path)
    options = ListOptions(show_hidden, numeric_uid, recursive, dereference)
    return await asked.answer(call, files, path, options)


@router.get("/view", response_model=wire.GetViewFileResponse)
async def get_view(call: Call, path: QueryPath, size: int | None = None, offset: int | None = 0) -> Response:
    """Show `size` bytes of a file from `offset` on as text (as many as are allowed, when no size is given)."""
    allowed = await call.allow(Verb.FILES_READ)
    files = allowed.files(path=path)
    start, length = view_slice(offset, size, call.cluster.limits.view_size)
    return JsonResponse({"output": await files.queries.view(path, call.deadline, offset=start, size=length)})


@router.get("/head", response_model=wire.GetFileHeadResponse)
async def get_head(
    call: Call,
    path: QueryPath,
    count_bytes: Annotated[Count | None, Query(alias="bytes")] = None,
    count_lines: Annotated[Count | None, Query(alias="lines")] = None,
    skip_trailing: Annotated[bool, Query(alias="skipTrailing")] = False,
) -> Response:
    """Show the first bytes or lines (10 lines by default), or all but the last."""
    part = Excerpt.of(count_bytes, count_lines, skip=skip_trailing, limit=call.cluster.limits.view_size)
    allowed = await call.allow(Verb.FILES_READ)
    files = allowed.files(path=path)
    return JsonResponse(part.from_start(await files.queries.head(path, call.deadline, part.text_range)))


@router.get("/tail", response_model=wire.GetFileTailResponse, responses=TAIL_RESPONSES)
async def get_tail(
    call: Call,
    path: QueryPath,
    count_bytes: Annotated[Count | None, Query(alias="bytes")] = None,
    count_lines: Annotated[Count | None, Query(alias="lines")] = None,
    skip_heading: Annotated[bool, Query(alias="skipHeading")] = False,
    follow: bool = False,
) -> Response:
    """Show the last bytes or lines (10 lines by default), or all from one of them on (1 is the first).

    With `follow` go on as the file grows, as server-sent events that resume by Last-Event-ID.
    """
    if follow:
        return await follow_tail(call, path, count_bytes, count_lines, skip=skip_heading)
    part = Excerpt.of(count_bytes, count_lines, skip=skip_heading, limit=call.cluster.limits.view_size)
    allowed = await call.allow(Verb.FILES_READ)
    files = allowed.files(path=path)
    return JsonResponse(part.to_end(await files.queries.tail(path, call.deadline, part.text_range)))


@router.get("/checksum", response_model=wire.GetFileChecksumResponse)
async def get_checksum(
    call: Call,
    path: QueryPath,
    algorithm: ChecksumAlgorithm = "sha256",
    timeout: TimeoutSeconds = None,  # noqa: ASYNC109 -- the caller's own
) -> Response:
    """Compute the checksum of a file, SHA-256 by default."""
    patience = RequestTimeout(call, timeout)
    allowed = await call.allow(Verb.FILES_READ)
    files = allowed.files(path=path)
    async with patience.limited() as deadline:
        checksum = await files.queries.checksum(path, deadline, algorithm=algorithm)
    name = "BLAKE2b" if algorithm == "blake2b" else algorithm.upper()
    return JsonResponse({"output": {"algorithm": name, "checksum": checksum}})


@router.get("/file", response_model=wire.GetFileTypeResponse)
async def get_file(call: Call, path: QueryPath) -> Response:
    """Say what a file's content is."""
    allowed = await call.allow(Verb.FILES_READ)
    files = allowed.files(path=path)
    return JsonResponse({"output": await files.queries.file_type(path, call.deadline)})


@router.put("/chmod", response_model=wire.PutFileChmodResponse)
async def put_chmod(call: Call, body: wire.PutFileChmodRequest) -> Response:
    """Change a file's mode."""
    allowed = await call.allow(Verb.FILES_WRITE)
    files = allowed.files(sourcePath=body.path)
    await files.changes.chmod(body.path, body.mode, call.deadline)
    return JsonResponse({"output": file_entry(await files.queries.entry(body.path, call.deadline))})


@router.put("/chown", response_model=wire.PutFileChownResponse)
async def put_chown(call: Call, body: wire.PutFileChownRequest) -> Response:
    """Change a file's owner and group."""
    allowed = await call.allow(Verb.FILES_WRITE)
    files = allowed.files(sourcePath=body.path)
    await files.changes.chown(body.path, body.owner, body.group, call.deadline)
    return JsonResponse({"output": file_entry(await files.queries.entry(body.path, call.deadline))})


@router.post("/mkdir", status_code=201, response_model=wire.PostMkdirResponse)
async def post_mkdir(call: Call, body: wire.PostMakeDirRequest) -> Response:
    """Make a directory."""
    allowed = await call.allow(Verb.FILES_WRITE)
    files = allowed.files(sourcePath=body.path)
    await files.changes.mkdir(body.path, call.deadline, parents=body.parent, exist_ok=body.exist_ok)
    return JsonResponse({"output": file_entry(await files.queries.entry(body.path, call.deadline))}, 201)


@router.post("/symlink", status_code=201, response_model=wire.PostFileSymlinkResponse)
async def post_symlink(call: Call, body: wire.PostFileSymlinkRequest) -> Response:
    """Make a symbolic link, to the path as it is or as it is seen from the link."""
    leads_to, target = link_target(body.path, body.link_path, relative=body.relative)
    allowed = await call.allow(Verb.FILES_WRITE)
    files = allowed.files(sourcePath=leads_to, linkPath=body.link_path)
    await files.changes.symlink(target, body.link_path, call.deadline)
    return JsonResponse({"output": file_entry(await files.queries.entry(body.link_path, call.deadline))}, 201)


@router.delete("/rm", status_code=204, response_model=None)
async def delete_rm(call: Call, path: QueryPath, timeout: TimeoutSeconds = None) -> Response:  # noqa: ASYNC109
    """Remove a file, or a directory with all that is in it."""
    patience = RequestTimeout(call, timeout, "DELETE /filesystem/{system}/transfer/rm")
    allowed = await call.allow(Verb.FILES_WRITE)
    files = allowed.files(path=path)
    async with patience.limited() as deadline:
        await files.changes.rm(path, deadline)
    return no_content()


@router.post("/upload", status_code=204, response_model=None, openapi_extra=UPLOAD_BODY)
async def post_upload(call: Call, path: QueryPath) -> Response:
    """Upload a file (of max_ops_file_size bytes at most) into the directory `path`."""
    allowed = await call.allow(Verb.FILES_WRITE)
    allowed.files(path=path)
    limits = call.cluster.limits
    form = UploadFormReader(call, limits.max_ops_file_size, timeout=limits.files)
    target = posixpath.join(path, await form.name())
    files = allowed.files(file=target)
    async with aclosing(form.chunks()) as chunks:
        await files.content.upload(target, chunks, call.deadline)
    return no_content()


@router.put("/upload", status_code=201, response_model=None, responses=PUT_RESPONSES, openapi_extra=RAW_BODY)
async def put_upload(
    call: Call,
    path: QueryPath,
    mode: Mode = None,
    mtime: ModificationTime = None,
    parents: Parents = False,
    fsync: Fsync = False,
) -> Response:
    """Write a file (of max_ops_file_size bytes at most): the body is its content, `path` the file itself."""
    allowed = await call.allow(Verb.FILES_WRITE)
    files = allowed.files(path=path)
    return await FilePut(call, mode, mtime, parents, fsync).into(files, path)


@router.post("/compress", status_code=204, response_model=None)
async def post_compress(call: Call, body: wire.PostCompressRequest, timeout: TimeoutSeconds = None) -> Response:  # noqa: ASYNC109
    """Archive a file or directory with tar."""
    patience = RequestTimeout(call, timeout, "POST /filesystem/{system}/transfer/compress")
    allowed = await call.allow(Verb.FILES_WRITE)
    files = allowed.files(sourcePath=body.path, targetPath=body.target_path)
    options = CompressOptions(body.compression, body.match_pattern or None, body.dereference)
    async with patience.limited() as deadline:
        await files.changes.compress(body.path, body.target_path, deadline, options)
    return no_content()


@router.post("/extract", status_code=204, response_model=None)
async def post_extract(call: Call, body: wire.PostExtractRequest, timeout: TimeoutSeconds = None) -> Response:  # noqa: ASYNC109
    """Unpack a tar archive."""
    patience = RequestTimeout(call, timeout, "POST /filesystem/{system}/transfer/extract")
    allowed = await call.allow(Verb.FILES_WRITE)
    files = allowed.files(sourcePath=body.path, targetPath=body.target_path)
    async with patience.limited() as deadline:
        await files.changes.extract(body.path, body.target_path, deadline, compression=body.compression)
    return no_content()
