"""Routes of `/filesystem/{system_name}/transfer`: between the wire and the Transfers port."""

import os
from typing import Any, Final, assert_never
from urllib.parse import quote

from fastapi import APIRouter
from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.cluster import Cluster
from flamecrest.server.files.values import CompressOptions
from flamecrest.server.http.access.address import public_url
from flamecrest.server.http.core.openapi import ERRORS
from flamecrest.server.http.core.parameters import AccountName, QueryPath, body_limit
from flamecrest.server.http.core.responses import JsonResponse
from flamecrest.server.http.core.route import Call, FilesRoute
from flamecrest.server.http.jobs.specs import KEY_HEADER, idempotency_key
from flamecrest.server.transfer.port import (
    S3Directives,
    StartedTransfer,
    StreamerDirectives,
    SubmittedTransfer,
    TransferRequest,
    WormholeDirectives,
)
from flamecrest.wire import transfer as wire
from flamecrest.wire.compute import SCRIPT_LIMIT

from .following import Following
from .once import once

_JOBS: Final = frozenset({"streamer", "wormhole"})  # methods that submit a job
router = APIRouter(
    prefix="/filesystem/{system_name}/transfer", tags=["filesystem"], route_class=FilesRoute, responses=ERRORS
)


@router.post("/mv", status_code=201, response_model=wire.MoveResponse, openapi_extra=KEY_HEADER)
@body_limit(SCRIPT_LIMIT)
async def post_mv(call: Call, body: wire.MoveRequest) -> Response:
    """Move a file or directory in a job."""
    allowed = await call.allow(Verb.TRANSFER, body.path, body.target_path, tree=True)
    transfers = allowed.transfers(jobs=True, **body.paths)
    async with Following.of(call, allowed, body.then_submit) as then:
        account, key = body.account or None, idempotency_key(call)
        job = await transfers.mv(body.path, body.target_path, call.deadline, account=account, key=key)
        await then.begin(job)
    return JsonResponse(submitted(call.cluster, job), 201)


@router.post("/cp", status_code=201, response_model=wire.CopyResponse, openapi_extra=KEY_HEADER)
@body_limit(SCRIPT_LIMIT)
async def post_cp(call: Call, body: wire.CopyRequest) -> Response:
    """Copy a file or directory in a job."""
    allowed = await call.allow(Verb.TRANSFER, body.path, body.target_path, tree=True, through_links=body.dereference)
    transfers = allowed.transfers(jobs=True, **body.paths)
    async with Following.of(call, allowed, body.then_submit) as then:
        paths, account, key = (body.path, body.target_path), body.account or None, idempotency_key(call)
        job = await transfers.cp(*paths, call.deadline, account=account, key=key, dereference=body.dereference)
        await then.begin(job)
    return JsonResponse(submitted(call.cluster, job), 201)


@router.delete("/rm", response_model=wire.DeleteResponse, openapi_extra=KEY_HEADER)
async def delete_rm(call: Call, path: QueryPath, account: AccountName = None) -> Response:
    """Remove a file or directory in a job."""
    allowed = await call.allow(Verb.TRANSFER, path, tree=True)
    transfers = allowed.transfers(path=path)
    allowed.refuse_root(path)
    job = await transfers.rm(path, call.deadline, account=account or None, key=idempotency_key(call))
    return JsonResponse(submitted(call.cluster, job))


@router.post("/compress", status_code=201, response_model=wire.CompressResponse, openapi_extra=KEY_HEADER)
@body_limit(SCRIPT_LIMIT)
async def post_compress(call: Call, body: wire.CompressRequest) -> Response:
    """Create a tar archive of a file or directory in a job."""
    allowed = await call.allow(Verb.TRANSFER, body.path, body.target_path, tree=True, through_links=body.dereference)
    transfers = allowed.transfers(jobs=True, **body.paths)
    async with Following.of(call, allowed, body.then_submit) as then:
        options = CompressOptions(body.compression, body.match_pattern or None, body.dereference)
        account, key = body.account or None, idempotency_key(call)
        job = await transfers.compress(
            body.path, body.target_path, call.deadline, account=account, key=key, options=options
        )
        await then.begin(job)
    return JsonResponse(submitted(call.cluster, job), 201)


@router.post("/extract", status_code=201, response_model=wire.ExtractResponse, openapi_extra=KEY_HEADER)
@body_limit(SCRIPT_LIMIT)
async def post_extract(call: Call, body: wire.ExtractRequest) -> Response:
    """Unpack a tar archive in a job."""
    allowed = await call.allow(Verb.TRANSFER, body.path, body.target_path, tree=True)
    transfers = allowed.transfers(jobs=True, **body.paths)
    async with Following.of(call, allowed, body.then_submit) as then:
        paths, account, key = (body.path, body.target_path), body.account or None, idempotency_key(call)
        job = await transfers.extract(*paths, call.deadline, account=account, key=key, compression=body.compression)
        await then.begin(job)
    return JsonResponse(submitted(call.cluster, job), 201)


@router.post("/upload", status_code=201, response_model=wire.UploadFileResponse, openapi_extra=KEY_HEADER)
@body_limit(SCRIPT_LIMIT)
async def post_upload(call: Call, body: wire.PostFileUploadRequest) -> Response:
    """Start an upload of any size."""
    allowed = await call.allow(Verb.TRANSFER, body.path, tree=True)
    transfers, request = allowed.transfers(jobs=False, **body.paths), _request(body.transfer_directives)

    async def start() -> dict[str, Any]:
        async with Following.of(call, allowed, body.then_submit) as then:
            begun = await transfers.upload(body.path, call.deadline, account=body.account or None, request=request)
            await then.begin(begun.job)
        return started(call, body.path, begun)

    return await once(call, allowed, body, start, submits=request.method in _JOBS)


@router.post("/download", status_code=201, response_model=wire.DownloadFileResponse, openapi_extra=KEY_HEADER)
async def post_download(call: Call, body: wire.PostFileDownloadRequest) -> Response:
    """Start a download of any size."""
    allowed = await call.allow(Verb.TRANSFER, body.path, tree=True)
    transfers, request = allowed.transfers(jobs=False, **body.paths), _request(body.transfer_directives)

    async def start() -> dict[str, Any]:
        begun = await transfers.download(body.path, call.deadline, account=body.account or None, request=request)
        return started(call, body.path, begun)

    return await once(call, allowed, body, start, submits=request.method in _JOBS)


def _request(
    directives: wire.S3TransferRequest
    | wire.StreamerTransferRequest
    | wire.WormholeTransferRequest
    | wire.WormholeTransferUploadRequest,
) -> TransferRequest:
    match directives:
        case wire.S3TransferRequest():
            sha256 = (directives.sha256 or "").lower()
            return TransferRequest(directives.transfer_method, directives.file_size, sha256=sha256)
        case wire.WormholeTransferUploadRequest():
            return TransferRequest("wormhole", wormhole_code=directives.wormhole_code)
        case wire.StreamerTransferRequest() | wire.WormholeTransferRequest():
            return TransferRequest(directives.transfer_method)
        case _:
            assert_never(directives)


def submitted(cluster: Cluster, job: SubmittedTransfer) -> dict[str, Any]:
    """A response with a wire.TransferJob."""
    return {
        "transferJob": {
            "jobId": job.job_id,
            "system": cluster.name,
            "workingDirectory": job.working_directory,
            "logs": {"outputLog": job.output_log, "errorLog": job.error_log},
        }
    }


def started(call: Call, path: str, started: StartedTransfer) -> dict[str, Any]:
    """A response with a wire.TransferJob and the wire.TransferDirectives."""
    directives = started.directives
    shown = _signed(call, path, directives) if isinstance(directives, S3Directives) else _directives(directives)
    return {**submitted(call.cluster, started.job), "transferDirectives": shown}


def _signed(call: Call, path: str, directives: S3Directives) -> dict[str, Any]:
    """The URLs of a transfer; those of the gateway begin with its address."""
    base, parts = public_url(call), directives.parts_upload_urls

    def whole(url: str | None) -> str | None:
        return base + url if url is not None and url.startswith("/") else url

    start = whole(directives.parts_start) or ""
    system, direct = f"/filesystem/{quote(call.cluster.name, safe='')}", directives.method == "direct"
    fetched = f"{system}/ops/download?path={quote(os.fsencode(path), safe='/')}"
    return {
        "transferMethod": directives.method,
        "partsUploadUrls": None if parts is None else [start + url for url in parts],
        "completeUploadUrl": whole(directives.complete_upload_url),
        "downloadUrl": whole(directives.download_url),
        "maxPartSize": directives.max_part_size,
        "abortUploadUrl": whole(directives.abort_upload_url),
        "resumableUploadUrl": whole(f"{system}/uploads") if direct and parts is not None else None,
        "rangeDownloadUrl": whole(fetched) if direct and parts is None else None,
    }


def _directives(directives: StreamerDirectives | WormholeDirectives) -> dict[str, Any]:
    match directives:
        case StreamerDirectives():
            return {"transferMethod": "streamer", "coordinates": directives.coordinates}
        case WormholeDirectives():
            return {"transferMethod": "wormhole", "wormholeCode": directives.code}
        case _:
            assert_never(directives)
