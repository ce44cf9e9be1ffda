"""Routes of `/filesystem/{system_name}/ops` in FirecREST v2. Each converts between the wire and the Files port."""

import posixpath
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import NotFound
from flamecrest.server.files.paths import IsFolder
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
from .excerpt import Excerpt, text_response, view_slice
from .put import FilePut, Fsync, Mode, ModificationTime, Parents
from .relative_link import link_target
from .request_timeout import RequestTimeout, TimeoutSeconds
from .tail import TAIL_RESPONSES, follow_tail
from .upload_form import UploadFormReader, misplaced

router = APIRouter(
    prefix="/filesystem/{system_name}/ops", tags=["filesystem"], route_class=FilesRoute, responses=ERRORS
)

Count = Annotated[int, Field(ge=1, le=2**63 - 1)]


@router.get("/stat", response_model=wire.GetFileStatResponse)
async def get_stat(call: Call, path: QueryPath, dereference: bool = False) -> Response:
    """Show the attributes of a file, as stat(2) with `dereference`, else as lstat(2)."""
    allowed = await call.allow(Verb.FILES_READ, path)
    files = allowed.files(path=path)
    return JsonResponse({"output": file_stat(await files.queries.stat(path, call.deadline, follow=dereference))})


@router.head("/download", response_model=None, responses=HEAD_RESPONSES)
@router.get("/download", response_model=None, responses=DOWNLOAD_RESPONSES)
async def get_download(call: Call, path: QueryPath) -> Response:
    """Download a file of at most `max_ops_file_size` bytes.

    Ranges (`Range`), conditions (`If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since`, `If-Range`)
    and digests (`Want-Repr-Digest`, `Want-Content-Digest`) work as in RFC 9110 and RFC 9530.
    """
    allowed = await call.allow(Verb.FILES_READ, path)
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
    """List a directory; a file is listed as one entry.

    `glob` and `type` filter the entries, `sort` orders them. With `limit` the response is one page, and its
    `nextCursor` is the `cursor` of the next. With `Accept: application/x-ndjson` each line is one File.
    """
    request = listing.ListingRequest.of(glob=glob, sort=sort, kinds=kinds, limit=limit, cursor=cursor)
    allowed = await call.allow(Verb.FILES_READ, path, tree=recursive, through_links=dereference)
    files = allowed.files(path=path)
    options = ListOptions(show_hidden, numeric_uid, recursive, dereference)
    return await request.respond(call, files, path, options)


@router.get("/view", response_model=wire.GetViewFileResponse)
async def get_view(call: Call, path: QueryPath, size: int | None = None, offset: int | None = 0) -> Response:
    """Show `size` bytes of a file, from `offset`, as text. Without `size`: as many as the system allows."""
    allowed = await call.allow(Verb.FILES_READ, path)
    files = allowed.files(path=path)
    start, length = view_slice(offset, size, call.cluster.limits.view_size)
    return await text_response(
        call,
        lambda: files.queries.view(path, call.deadline, offset=start, size=length),
        length,
        lambda text: {"output": text},
    )


@router.get("/head", response_model=wire.GetFileHeadResponse)
async def get_head(
    call: Call,
    path: QueryPath,
    count_bytes: Annotated[Count | None, Query(alias="bytes")] = None,
    count_lines: Annotated[Count | None, Query(alias="lines")] = None,
    skip_trailing: Annotated[bool, Query(alias="skipTrailing")] = False,
) -> Response:
    """Show the first bytes or lines of a file (default: 10 lines); with `skipTrailing` all but the last."""
    part = Excerpt.of(count_bytes, count_lines, skip=skip_trailing, limit=call.cluster.limits.view_size)
    allowed = await call.allow(Verb.FILES_READ, path)
    files = allowed.files(path=path)
    return await text_response(
        call, lambda: files.queries.head(path, call.deadline, part.text_range), part.limit, part.head_response
    )


@router.get("/tail", response_model=wire.GetFileTailResponse, responses=TAIL_RESPONSES)
async def get_tail(
    call: Call,
    path: QueryPath,
    count_bytes: Annotated[Count | None, Query(alias="bytes")] = None,
    count_lines: Annotated[Count | None, Query(alias="lines")] = None,
    skip_heading: Annotated[bool, Query(alias="skipHeading")] = False,
    follow: bool = False,
) -> Response:
    """Show the last bytes or lines of a file (default: 10 lines); with `skipHeading` all from that number on (1-based).

    With `follow` the response is a stream of server-sent events that continues while the file grows. `Last-Event-ID`
    resumes a stream.
    """
    if follow:
        return await follow_tail(call, path, count_bytes, count_lines, skip=skip_heading)
    part = Excerpt.of(count_bytes, count_lines, skip=skip_heading, limit=call.cluster.limits.view_size)
    allowed = await call.allow(Verb.FILES_READ, path)
    files = allowed.files(path=path)
    return await text_response(
        call, lambda: files.queries.tail(path, call.deadline, part.text_range), part.limit, part.tail_response
    )


@router.get("/checksum", response_model=wire.GetFileChecksumResponse)
async def get_checksum(
    call: Call,
    path: QueryPath,
    algorithm: ChecksumAlgorithm = "sha256",
    timeout: TimeoutSeconds = None,  # noqa: ASYNC109 -- the caller's own
) -> Response:
    """Compute the checksum of a file (default: SHA-256) on the system."""
    request_timeout = RequestTimeout(call, timeout)
    allowed = await call.allow(Verb.FILES_READ, path)
    files = allowed.files(path=path)
    async with request_timeout.enforce() as deadline:
        checksum = await files.queries.checksum(path, deadline, algorithm=algorithm)
    name = "BLAKE2b" if algorithm == "blake2b" else algorithm.upper()
    return JsonResponse({"output": {"algorithm": name, "checksum": checksum}})


@router.get("/file", response_model=wire.GetFileTypeResponse)
async def get_file(call: Call, path: QueryPath) -> Response:
    """Describe the content of a file, as the command `file` does."""
    allowed = await call.allow(Verb.FILES_READ, path)
    files = allowed.files(path=path)
    return JsonResponse({"output": await files.queries.file_type(path, call.deadline)})


@router.put("/chmod", response_model=wire.PutFileChmodResponse)
async def put_chmod(call: Call, body: wire.PutFileChmodRequest) -> Response:
    """Change the mode of a file."""
    allowed = await call.allow(Verb.FILES_WRITE, body.path)
    files = allowed.files(**body.paths)
    await files.changes.chmod(body.path, body.mode, call.deadline)
    return JsonResponse({"output": file_entry(await files.queries.entry(body.path, call.deadline))})


@router.put("/chown", response_model=wire.PutFileChownResponse)
async def put_chown(call: Call, body: wire.PutFileChownRequest) -> Response:
    """Change the owner and the group of a file."""
    allowed = await call.allow(Verb.FILES_WRITE, body.path)
    files = allowed.files(**body.paths)
    await files.changes.chown(body.path, body.owner, body.group, call.deadline)
    return JsonResponse({"output": file_entry(await files.queries.entry(body.path, call.deadline))})


@router.post("/mkdir", status_code=201, response_model=wire.PostMkdirResponse)
async def post_mkdir(call: Call, body: wire.PostMakeDirRequest) -> Response:
    """Create a directory."""
    allowed = await call.allow(Verb.FILES_WRITE, body.path)
    files = allowed.files(**body.paths)
    await files.changes.mkdir(body.path, call.deadline, parents=body.parent, exist_ok=body.exist_ok)
    return JsonResponse({"output": file_entry(await files.queries.entry(body.path, call.deadline))}, 201)


@router.post("/symlink", status_code=201, response_model=wire.PostFileSymlinkResponse)
async def post_symlink(call: Call, body: wire.PostFileSymlinkRequest) -> Response:
    """Create a symbolic link to the path. With `relative` the link stores the path relative to itself."""
    names = body.sent_as("path"), body.sent_as("link_path")
    leads_to, target = link_target(body.path, body.link_path, relative=body.relative, names=names)
    allowed = await call.allow(Verb.FILES_WRITE, body.link_path, sources=(leads_to,), tree=True)
    files = allowed.files(**dict(zip(names, (leads_to, body.link_path), strict=True)))
    await files.changes.symlink(target, body.link_path, call.deadline)
    return JsonResponse({"output": file_entry(await files.queries.entry(body.link_path, call.deadline))}, 201)


@router.delete("/rm", status_code=204, response_model=None)
async def delete_rm(call: Call, path: QueryPath, timeout: TimeoutSeconds = None) -> Response:  # noqa: ASYNC109
    """Remove a file, or a directory with everything in it."""
    request_timeout = RequestTimeout(call, timeout, "DELETE /filesystem/{system}/transfer/rm")
    allowed = await call.allow(Verb.FILES_WRITE, path, tree=True)
    files = allowed.files(path=path)
    allowed.refuse_root(path)
    async with request_timeout.enforce() as deadline:
        await files.changes.rm(path, deadline)
    return no_content()


@router.post("/upload", status_code=204, response_model=None, openapi_extra=UPLOAD_BODY)
async def post_upload(call: Call, path: QueryPath) -> Response:
    """Upload a file of at most `max_ops_file_size` bytes into the directory `path`.

    The body is a form with the part `file`. An existing file is replaced when the upload is complete.
    """
    (await call.allow(Verb.FILES_WRITE, path)).files(path=path)
    form = UploadFormReader(call, call.cluster.limits.max_ops_file_size, timeout=call.cluster.limits.files)
    target = posixpath.join(path, await form.name())
    files = (await call.allow(Verb.FILES_WRITE, target)).files(file=target)
    try:
        async with aclosing(form.chunks()) as chunks:
            await files.content.upload(target, chunks, call.deadline)
    except (IsFolder, NotFound) as error:
        raise misplaced(error, target) from None
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
    """Write a file of at most `max_ops_file_size` bytes. `path` is the file, the body is its content.

    An existing file is replaced when the body is complete. `Content-Digest` and `Repr-Digest` are verified;
    `If-Match`, `If-None-Match` and `If-Unmodified-Since` make the write conditional.
    """
    allowed = await call.allow(Verb.FILES_WRITE, path)
    files = allowed.files(path=path)
    return await FilePut(call, mode, mtime, parents, fsync).receive(files, path)


@router.post("/compress", status_code=204, response_model=None)
async def post_compress(call: Call, body: wire.PostCompressRequest, timeout: TimeoutSeconds = None) -> Response:  # noqa: ASYNC109
    """Create a tar archive of a file or directory."""
    request_timeout = RequestTimeout(call, timeout, "POST /filesystem/{system}/transfer/compress")
    allowed = await call.allow(
        Verb.FILES_WRITE, body.target_path, sources=(body.path,), tree=True, through_links=body.dereference
    )
    files = allowed.files(**body.paths)
    options = CompressOptions(body.compression, body.match_pattern or None, body.dereference)
    async with request_timeout.enforce() as deadline:
        await files.changes.compress(body.path, body.target_path, deadline, options)
    return no_content()


@router.post("/extract", status_code=204, response_model=None)
async def post_extract(call: Call, body: wire.PostExtractRequest, timeout: TimeoutSeconds = None) -> Response:  # noqa: ASYNC109
    """Unpack a tar archive into a directory, which is created if it is missing."""
    request_timeout = RequestTimeout(call, timeout, "POST /filesystem/{system}/transfer/extract")
    allowed = await call.allow(Verb.FILES_WRITE, body.target_path, sources=(body.path,), tree=True)
    files = allowed.files(**body.paths)
    async with request_timeout.enforce() as deadline:
        await files.changes.extract(body.path, body.target_path, deadline, compression=body.compression)
    return no_content()
