"""Routes of `/filesystem/{system_name}/uploads`: the tus 1.0.0 protocol on the Uploads port. Knows no adapter.

https://tus.io/protocols/resumable-upload, with creation, creation-defer-length, creation-with-upload, checksum,
expiration and termination.
"""

from __future__ import annotations

import posixpath
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from email.utils import formatdate
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from flamecrest.server.auth.port import Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, TooLarge
from flamecrest.server.files.resumable.port import CHECKSUM_ALGORITHMS, UploadStatus
from flamecrest.server.files.resumable.state import UploadKey
from flamecrest.server.http.core.openapi import ERRORS
from flamecrest.server.http.core.request_body import RequestBody
from flamecrest.server.http.core.responses import add_response_headers
from flamecrest.server.http.core.route import Call, FilesRoute
from flamecrest.wire.text import check_name

from .headers import VERSION, TusHeaders, has_content, parse_metadata, plain_file_name

EXTENSIONS: Final = "creation,creation-defer-length,creation-with-upload,checksum,expiration,termination"
_TUS: Final = (b"tus-resumable", VERSION.encode())
_METHODS_OF_ONE: Final = "HEAD, PATCH, DELETE, OPTIONS"  # of an upload; POST only with X-HTTP-Method-Override


class TusRoute(FilesRoute):
    """A route whose responses, errors included, have the header Tus-Resumable."""

    RESPONSE_HEADERS = (_TUS,)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        add_response_headers(scope, _TUS)
        await super()._serve(scope, receive, send)


router = APIRouter(
    prefix="/filesystem/{system_name}/uploads", tags=["filesystem"], route_class=TusRoute, responses=ERRORS
)

UploadId = Annotated[str, Path(description="Id of the upload: the last part of the `Location` of its creation")]
Folder = Annotated[
    str | None,
    AfterValidator(lambda path: None if path is None else check_name(path)),
    Query(description="Directory of the file if Upload-Metadata has `filename` and no `path`"),
]


def _header(name: str, description: str, *, required: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string"},
    }


_RESUMABLE: Final = _header("Tus-Resumable", f"Version of the protocol: {VERSION}", required=True)
_CHECKSUM: Final = _header("Upload-Checksum", f"{', '.join(CHECKSUM_ALGORITHMS)}, a space, the digest in base64")
_PIECE: Final[dict[str, Any]] = {
    "content": {"application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}}}
}
_CREATION: Final[dict[str, Any]] = {
    "parameters": [
        _RESUMABLE,
        _header("Upload-Length", "Bytes of the whole file"),
        _header("Upload-Defer-Length", "1: the length is given later"),
        _header("Upload-Metadata", "`path`, or `filename` with the query's `path`: a space, the value in base64"),
        _CHECKSUM,
    ],
    "requestBody": _PIECE,
}
_ADDITION: Final[dict[str, Any]] = {
    "parameters": [
        _RESUMABLE,
        _header("Upload-Offset", "Current offset of the upload in bytes", required=True),
        _header("Upload-Length", "Bytes of the whole file, if it was deferred"),
        _CHECKSUM,
    ],
    "requestBody": {"required": True, **_PIECE},
}


@router.options("", status_code=204, response_model=None)
async def options_uploads(call: Call) -> Response:
    """Show the version, the extensions and the limits of the tus protocol that are supported."""
    return _options(call, "POST, OPTIONS")


@router.options("/{upload}", status_code=204, response_model=None, include_in_schema=False)
async def options_upload(call: Call, upload: UploadId) -> Response:  # noqa: ARG001 -- the same for each
    """Show the same for one upload."""
    return _options(call, _METHODS_OF_ONE)


def _options(call: Call, allow: str) -> Response:
    limit = call.cluster.limits.max_ops_file_size
    return _response(
        204,
        {
            "Allow": allow,
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Checksum-Algorithm": ",".join(CHECKSUM_ALGORITHMS),
            **({} if limit is None else {"Tus-Max-Size": str(limit)}),
        },
    )


@router.post("", status_code=201, response_model=None, openapi_extra=_CREATION)
async def post_uploads(call: Call, path: Folder = None) -> Response:
    """Create a resumable upload (tus). A body is its first content."""
    tus = TusHeaders(call.headers)
    tus.version()
    given = tus.one("Upload-Metadata") or ""
    target = _target(parse_metadata(given), path)
    length = tus.length(new=True)
    checksum, has_body = tus.checksum(), has_content(call.headers)
    limits = call.cluster.limits
    _fits(length, limits.max_ops_file_size)
    allowed = await call.allow(Verb.FILES_WRITE, target)
    uploads = allowed.uploads(path=target)
    upload = await uploads.create(target, length, given, call.deadline)
    if has_body and not upload.complete:
        room = limits.max_ops_file_size if length is None else length
        try:
            async with aclosing(_content(call, room)) as chunks:
                upload = await uploads.append(upload.key, 0, chunks, call.deadline, checksum=checksum)
        except Exception:
            with suppress(GatewayError):  # nobody else knows its id
                await uploads.remove(upload.key, Deadline.after(limits.files))
            raise
    return _response(201, {"Location": _location(call, upload), **_progress_of(upload)})


@router.head("/{upload}", response_model=None, openapi_extra={"parameters": [_RESUMABLE]})
async def head_upload(call: Call, upload: UploadId) -> Response:
    """Show the offset of a resumable upload."""
    TusHeaders(call.headers).version()
    key = UploadKey.parse(upload)
    allowed = await call.allow(Verb.FILES_WRITE, key.path)
    uploads = allowed.uploads(path=key.path)
    found = await uploads.look(key, call.deadline)
    headers = {"Cache-Control": "no-store", **_progress_of(found)}
    if found.metadata:
        headers["Upload-Metadata"] = found.metadata
    if found.length is None:
        headers["Upload-Defer-Length"] = "1"
    else:
        headers["Upload-Length"] = str(found.length)
    return _response(200, headers)


@router.patch("/{upload}", status_code=204, response_model=None, openapi_extra=_ADDITION)
async def patch_upload(call: Call, upload: UploadId) -> Response:
    """Append to a resumable upload. The file exists when the last byte has arrived."""
    tus = TusHeaders(call.headers)
    tus.version()
    tus.content_type()
    offset, length, checksum = tus.offset(), tus.length(), tus.checksum()
    key = UploadKey.parse(upload)
    limits = call.cluster.limits
    _fits(length, limits.max_ops_file_size)
    allowed = await call.allow(Verb.FILES_WRITE, key.path)
    uploads = allowed.uploads(path=key.path)
    room = None if limits.max_ops_file_size is None else max(0, limits.max_ops_file_size - offset)
    async with aclosing(_content(call, room)) as chunks:
        found = await uploads.append(key, offset, chunks, call.deadline, length=length, checksum=checksum)
        if found.complete:
            await _refuse_more(chunks)
    return _response(204, _progress_of(found))


@router.delete("/{upload}", status_code=204, response_model=None, openapi_extra={"parameters": [_RESUMABLE]})
async def delete_upload(call: Call, upload: UploadId) -> Response:
    """Cancel a resumable upload and remove its data."""
    TusHeaders(call.headers).version()
    key = UploadKey.parse(upload)
    allowed = await call.allow(Verb.FILES_WRITE, key.path)
    uploads = allowed.uploads(path=key.path)
    await uploads.remove(key, call.deadline)
    return _response(204, {})


@router.post("/{upload}", response_model=None, include_in_schema=False)
async def post_upload(call: Call, upload: UploadId) -> Response:
    """Any of these for a client that can only POST; X-HTTP-Method-Override names the method."""
    meant = {"PATCH": patch_upload, "HEAD": head_upload, "DELETE": delete_upload, "OPTIONS": options_upload}
    handler = meant.get(call.headers.get("x-http-method-override", "").upper())
    if handler is None:
        raise HTTPException(405, "Method Not Allowed", {"Allow": _METHODS_OF_ONE})
    response: Response = await handler(call, upload)
    return response


def _content(call: Call, room: int | None) -> AsyncGenerator[bytes]:
    """The body, of at most `room` bytes."""
    too_large = partial(TooLarge, "The file exceeds the size limit")
    timeout = call.cluster.limits.files
    return RequestBody(call, timeout=timeout, limit=room, too_large=too_large).chunks()


async def _refuse_more(chunks: AsyncGenerator[bytes]) -> None:
    """Raise TooLarge for bytes behind the end of a complete upload: they have not been read."""
    async for _ in chunks:
        raise TooLarge("More bytes than the upload's length")


def _response(status: int, headers: Mapping[str, str]) -> Response:
    return Response(status_code=status, headers=headers)


def _progress_of(upload: UploadStatus) -> dict[str, str]:
    return {"Upload-Offset": str(upload.offset), "Upload-Expires": formatdate(upload.key.expires, usegmt=True)}


def _location(call: Call, upload: UploadStatus) -> str:
    prefix = call.scope.get("root_path", "")
    return f"{quote(prefix)}/filesystem/{quote(call.cluster.name, safe='')}/uploads/{upload.key.text}"


def _target(given: Mapping[str, str], folder: str | None) -> str:
    """The path of the file."""
    if "path" in given:
        return given["path"]
    return (
        posixpath.join(folder, plain_file_name(given))
        if folder is not None
        else plain_file_name(given, needs_folder=True)
    )


def _fits(length: int | None, limit: int | None) -> None:
    if limit is not None and length is not None and length > limit:
        raise TooLarge(f"At most {limit} bytes can be uploaded directly")
