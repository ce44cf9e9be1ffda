"""Routes of `/filesystem/{system_name}/transfer`: between the wire and the Transfers port."""

from typing import Any, assert_never

from fastapi import APIRouter
from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.cluster import Cluster
from flamecrest.server.files.values import CompressOptions
from flamecrest.server.http.core.openapi import ERRORS
from flamecrest.server.http.core.parameters import AccountName, QueryPath
from flamecrest.server.http.core.responses import JsonResponse
from flamecrest.server.http.core.route import Call, FilesRoute
from flamecrest.server.transfer.port import (
    S3Directives,
    StartedTransfer,
    StreamerDirectives,
    SubmittedTransfer,
    TransferRequest,
    WormholeDirectives,
)
from flamecrest.wire import transfer as wire

router = APIRouter(
    prefix="/filesystem/{system_name}/transfer", tags=["filesystem"], route_class=FilesRoute, responses=ERRORS
)


@router.post("/mv", status_code=201, response_model=wire.MoveResponse)
async def post_mv(call: Call, body: wire.MoveRequest) -> Response:
    """Move a file or directory in a job."""
    allowed = await call.allow(Verb.TRANSFER)
    transfers = allowed.transfers(sourcePath=body.path, targetPath=body.target_path)
    account = body.account or None
    job = await transfers.mv(body.path, body.target_path, call.deadline, account=account)
    return JsonResponse(_submitted(call.cluster, job), 201)


@router.post("/cp", status_code=201, response_model=wire.CopyResponse)
async def post_cp(call: Call, body: wire.CopyRequest) -> Response:
    """Copy a file or directory in a job."""
    allowed = await call.allow(Verb.TRANSFER)
    transfers = allowed.transfers(sourcePath=body.path, targetPath=body.target_path)
    paths, account = (body.path, body.target_path), body.account or None
    job = await transfers.cp(*paths, call.deadline, account=account, dereference=body.dereference)
    return JsonResponse(_submitted(call.cluster, job), 201)


@router.delete("/rm", response_model=wire.DeleteResponse)
async def delete_rm(call: Call, path: QueryPath, account: AccountName = None) -> Response:
    """Remove a file or directory in a job."""
    allowed = await call.allow(Verb.TRANSFER)
    transfers = allowed.transfers(path=path)
    allowed.refuse_root(path)
    return JsonResponse(_submitted(call.cluster, await transfers.rm(path, call.deadline, account=account or None)))


@router.post("/compress", status_code=201, response_model=wire.CompressResponse)
async def post_compress(call: Call, body: wire.CompressRequest) -> Response:
    """Create a tar archive of a file or directory in a job."""
    allowed = await call.allow(Verb.TRANSFER)
    transfers = allowed.transfers(sourcePath=body.path, targetPath=body.target_path)
    options = CompressOptions(body.compression, body.match_pattern or None, body.dereference)
    account = body.account or None
    job = await transfers.compress(body.path, body.target_path, call.deadline, account=account, options=options)
    return JsonResponse(_submitted(call.cluster, job), 201)


@router.post("/extract", status_code=201, response_model=wire.ExtractResponse)
async def post_extract(call: Call, body: wire.ExtractRequest) -> Response:
    """Unpack a tar archive in a job."""
    allowed = await call.allow(Verb.TRANSFER)
    transfers = allowed.transfers(sourcePath=body.path, targetPath=body.target_path)
    paths, account = (body.path, body.target_path), body.account or None
    job = await transfers.extract(*paths, call.deadline, account=account, compression=body.compression)
    return JsonResponse(_submitted(call.cluster, job), 201)


@router.post("/upload", status_code=201, response_model=wire.UploadFileResponse)
async def post_upload(call: Call, body: wire.PostFileUploadRequest) -> Response:
    """Start an upload of any size."""
    transfers = (await call.allow(Verb.TRANSFER)).transfers(sourcePath=body.path)
    request = _request(body.transfer_directives)
    started = await transfers.upload(body.path, call.deadline, account=body.account or None, request=request)
    return JsonResponse(_started(call.cluster, started), 201)


@router.post("/download", status_code=201, response_model=wire.DownloadFileResponse)
async def post_download(call: Call, body: wire.PostFileDownloadRequest) -> Response:
    """Start a download of any size."""
    transfers = (await call.allow(Verb.TRANSFER)).transfers(sourcePath=body.path)
    request = _request(body.transfer_directives)
    started = await transfers.download(body.path, call.deadline, account=body.account or None, request=request)
    return JsonResponse(_started(call.cluster, started), 201)


def _request(
    directives: wire.S3TransferRequest
    | wire.StreamerTransferRequest
    | wire.WormholeTransferRequest
    | wire.WormholeTransferUploadRequest,
) -> TransferRequest:
    match directives:
        case wire.S3TransferRequest():
            return TransferRequest("s3", file_size=directives.file_size)
        case wire.WormholeTransferUploadRequest():
            return TransferRequest("wormhole", wormhole_code=directives.wormhole_code)
        case wire.StreamerTransferRequest() | wire.WormholeTransferRequest():
            return TransferRequest(directives.transfer_method)
        case _:
            assert_never(directives)


def _submitted(cluster: Cluster, job: SubmittedTransfer) -> dict[str, Any]:
    """A response with a wire.TransferJob."""
    return {
        "transferJob": {
            "jobId": job.job_id,
            "system": cluster.name,
            "workingDirectory": job.working_directory,
            "logs": {"outputLog": job.output_log, "errorLog": job.error_log},
        }
    }


def _started(cluster: Cluster, started: StartedTransfer) -> dict[str, Any]:
    """A response with a wire.TransferJob and the wire.TransferDirectives."""
    return {**_submitted(cluster, started.job), "transferDirectives": _directives(started.directives)}


def _directives(directives: S3Directives | StreamerDirectives | WormholeDirectives) -> dict[str, Any]:
    match directives:
        case S3Directives():
            return {
                "transferMethod": "s3",
                "partsUploadUrls": directives.parts_upload_urls,
                "completeUploadUrl": directives.complete_upload_url,
                "downloadUrl": directives.download_url,
                "maxPartSize": directives.max_part_size,
            }
        case StreamerDirectives():
            return {"transferMethod": "streamer", "coordinates": directives.coordinates}
        case WormholeDirectives():
            return {"transferMethod": "wormhole", "wormholeCode": directives.code}
        case _:
            assert_never(directives)
