"""Routes of `/filesystem/{system_name}/transfer`: from wire to TransferJobs and back, a few lines each."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.cluster import Cluster
from flamecrest.server.errors import Field, Invalid
from flamecrest.server.http.core.openapi import ERRORS
from flamecrest.server.http.core.parameters import AccountName, QueryPath
from flamecrest.server.http.core.responses import JsonResponse
from flamecrest.server.http.core.route import Call, FilesRoute
from flamecrest.server.transfer.port import SubmittedTransfer
from flamecrest.wire import transfer as wire

router = APIRouter(
    prefix="/filesystem/{system_name}/transfer", tags=["filesystem"], route_class=FilesRoute, responses=ERRORS
)


@router.post("/mv", status_code=201, response_model=wire.MoveResponse)
async def post_mv(call: Call, body: wire.MoveRequest) -> Response:
    """Move a file or directory, in a job."""
    allowed = await call.allow(Verb.TRANSFER)
    transfers = allowed.transfers(sourcePath=body.path, targetPath=body.target_path)
    account = body.account or None
    ticket = await transfers.mv(body.path, body.target_path, call.deadline, account=account)
    return JsonResponse(_begun(call.cluster, ticket), 201)


@router.post("/cp", status_code=201, response_model=wire.CopyResponse)
async def post_cp(call: Call, body: wire.CopyRequest) -> Response:
    """Copy a file or directory, in a job."""
    allowed = await call.allow(Verb.TRANSFER)
    transfers = allowed.transfers(sourcePath=body.path, targetPath=body.target_path)
    ticket = await transfers.cp(
        body.path,
        body.target_path,
        call.deadline,
        account=body.account or None,
        dereference=body.dereference,
    )
    return JsonResponse(_begun(call.cluster, ticket), 201)


@router.delete("/rm", response_model=wire.DeleteResponse)
async def delete_rm(call: Call, path: QueryPath, account: AccountName = None) -> Response:
    """Remove a file or directory, in a job."""
    allowed = await call.allow(Verb.TRANSFER)
    transfers = allowed.transfers(path=path)
    return JsonResponse(_begun(call.cluster, await transfers.rm(path, call.deadline, account=account or None)))


@router.post("/compress", status_code=201, response_model=wire.CompressResponse)
async def post_compress(call: Call, body: wire.CompressRequest) -> Response:
    """Archive a file or directory, in a job."""
    allowed = await call.allow(Verb.TRANSFER)
    transfers = allowed.transfers(sourcePath=body.path, targetPath=body.target_path)
    how: dict[str, Any] = {
        "compression": body.compression,
        "pattern": body.match_pattern or None,
        "dereference": body.dereference,
        "account": body.account or None,
    }
    ticket = await transfers.compress(body.path, body.target_path, call.deadline, **how)
    return JsonResponse(_begun(call.cluster, ticket), 201)


@router.post("/extract", status_code=201, response_model=wire.ExtractResponse)
async def post_extract(call: Call, body: wire.ExtractRequest) -> Response:
    """Unpack an archive, in a job."""
    allowed = await call.allow(Verb.TRANSFER)
    transfers = allowed.transfers(sourcePath=body.path, targetPath=body.target_path)
    how: dict[str, Any] = {"compression": body.compression, "account": body.account or None}
    ticket = await transfers.extract(body.path, body.target_path, call.deadline, **how)
    return JsonResponse(_begun(call.cluster, ticket), 201)


@router.post("/upload", status_code=201, response_model=wire.UploadFileResponse)
async def post_upload(call: Call, body: wire.PostFileUploadRequest) -> Response:
    """Begin an upload of any size."""
    allowed = await call.allow(Verb.TRANSFER)
    allowed.transfers(sourcePath=body.path)
    raise _not_configured(call.cluster, body.transfer_directives.transfer_method)


@router.post("/download", status_code=201, response_model=wire.DownloadFileResponse)
async def post_download(call: Call, body: wire.PostFileDownloadRequest) -> Response:
    """Begin a download of any size."""
    allowed = await call.allow(Verb.TRANSFER)
    allowed.transfers(sourcePath=body.path)
    raise _not_configured(call.cluster, body.transfer_directives.transfer_method)


def _begun(cluster: Cluster, ticket: SubmittedTransfer) -> dict[str, Any]:
    """A response with its TransferJob."""
    return {
        "transferJob": {
            "jobId": ticket.job_id,
            "system": cluster.name,
            "workingDirectory": ticket.working_directory,
            "logs": {"outputLog": ticket.output_log, "errorLog": ticket.error_log},
        }
    }


def _not_configured(cluster: Cluster, method: str) -> Invalid:
    have = ", ".join(cluster.transfer_methods) or "none"
    message = f"the method {method} is not available on {cluster.name} (available: {have})"
    return Invalid(f"`transferMethod`: {message}", fields=(Field("body", "transferMethod", message),))
