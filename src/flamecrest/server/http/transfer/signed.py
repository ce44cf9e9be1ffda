"""Routes of signed URLs: they need no token, as the signature says who has started the transfer and for which file.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html has the requests of clients.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any, Final, cast

from fastapi import APIRouter
from starlette.responses import Response

from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Denied, Invalid, NotFound, TooLarge
from flamecrest.server.http.core.fair_use import admit, admit_verb
from flamecrest.server.http.core.request_body import RequestBody, declared_length
from flamecrest.server.http.core.responses import no_content
from flamecrest.server.http.core.route import Call, FilesRoute
from flamecrest.server.http.files.download import DownloadResponse
from flamecrest.server.telemetry.trace import current_trace
from flamecrest.server.transfer.direct.links import Ticket
from flamecrest.server.transfer.direct.port import DirectUploads

from .checksums import PartCheck, whole_sha256
from .multipart_xml import MAX_XML, completed, parse_parts

PARSED_AT_ONCE: Final = 64 * 1024  # bytes of a list of parts
TICKET: Final = "flamecrest.ticket"  # key of a scope: the ticket of a signed URL
_METHODS: Final[dict[str, Any]] = {"PUT": "PUT", "POST": "POST", "DELETE": "DELETE", "GET": "GET", "HEAD": "GET"}


class SignedRoute(FilesRoute):
    """A route whose caller is the one who has started the transfer. An Authorization header is not looked at."""

    async def _begin(self, call: Call) -> None:
        """Set ticket, identity, cluster and deadline. Raises Denied for a URL that the gateway has not made."""
        scope, gateway, given = call.scope, call.gateway, call.scope["path_params"]
        target: bytes = scope.get("raw_path") or scope["path"].encode()
        signed = target.partition(b"?")[0].rpartition(b"/transfer/")[2]
        if b"%" in signed or signed.endswith(b"/"):
            raise Denied("The signature of the URL is not valid", detail="another spelling")
        resource: Any = self.path.split("/")[4]
        method, part, query = _METHODS[scope["method"]], given.get("part", ""), scope["query_string"]
        ticket = gateway.signer.verify(method, resource, given["ticket"], part, query, time.time())
        if ticket.cluster.lower() != given["system_name"].lower():
            raise Denied("The signature of the URL is not valid", detail="another system")
        scope[TICKET] = ticket
        call.identity = Identity(ticket.user, expires=ticket.expires)
        call.cluster = gateway.cluster(ticket.cluster)
        call.deadline = Deadline.after(call.cluster.limits.files)
        trace = current_trace.get()
        if trace is not None:
            trace.user, trace.cluster = ticket.user, call.cluster.name
        scope["app"].users.begin(ticket.user, scope)
        if gateway.fair_use is not None:
            await admit(gateway.fair_use, call.identity, scope)
            await admit_verb(Verb.TRANSFER, scope)


router = APIRouter(prefix="/filesystem/{system_name}/transfer", route_class=SignedRoute, include_in_schema=False)


@router.put("/parts/{ticket}/{part}", response_model=None)
async def put_part(call: Call, ticket: str, part: str) -> Response:  # noqa: ARG001 -- in the signed URL
    """Send a part of an upload."""
    number, check = int(part), PartCheck(call)
    size = _part_size(call, number)
    async with aclosing(_content(call, number, size, check)) as chunks:
        md5 = await _uploads(call).put_part(_ticket(call), number, chunks, call.deadline)
    return Response(status_code=200, headers={"ETag": f'"{md5}"'})


@router.post("/uploads/{ticket}", response_model=None)
async def post_upload(call: Call, ticket: str) -> Response:  # noqa: ARG001 -- in the signed URL
    """Complete an upload."""
    sha256, sums = whole_sha256(call), await _parts(call)
    etag = await _uploads(call).complete(_ticket(call), sums, sha256, call.deadline)
    return Response(completed(call.url.path, _ticket(call).path, etag), media_type="application/xml")


@router.delete("/uploads/{ticket}", status_code=204, response_model=None)
async def delete_upload(call: Call, ticket: str) -> Response:  # noqa: ARG001 -- in the signed URL
    """Abort an upload."""
    await _uploads(call).abort(_ticket(call), call.deadline)
    return no_content()


@router.head("/content/{ticket}", response_model=None)
@router.get("/content/{ticket}", response_model=None)
async def get_content(call: Call, ticket: str) -> Response:  # noqa: ARG001 -- in the signed URL
    """Download a file, whole or in parts."""
    found = _ticket(call)
    path = found.path
    if found.depth:
        await call.cluster.refuse_outside(call.identity, path, found.folder, call.deadline)
    call.permission = allowed = call.cluster.allowed_before(call.identity, Verb.FILES_READ, path)
    return DownloadResponse(allowed.files(path=path), path, call.deadline, None)


def _ticket(call: Call) -> Ticket:
    return cast("Ticket", call.scope[TICKET])


def _uploads(call: Call) -> DirectUploads:
    call.permission = allowed = call.cluster.allowed_before(call.identity, Verb.TRANSFER, _ticket(call).path)
    return allowed.direct_uploads(path=_ticket(call).path)


def _part_size(call: Call, number: int) -> int:
    """The size of a part in bytes. Raises NotFound, and Invalid if the body is declared to have another one."""
    try:
        _, size = _ticket(call).plan.span(number)
    except ValueError:
        raise NotFound(f"The upload has no part {number}") from None
    if "content-length" in call.headers and declared_length(call.headers) != size:
        raise Invalid(f"Part {number} has {size} bytes; the body has {declared_length(call.headers)}")
    return size


async def _content(call: Call, number: int, size: int, check: PartCheck) -> AsyncGenerator[bytes]:
    """The body of a part; ends only if it has the given digests. Raises Invalid, TooLarge."""
    too_large = partial(TooLarge, f"Part {number} has {size} bytes; the body has more")
    body = RequestBody(call, timeout=call.cluster.limits.files, limit=size, too_large=too_large)
    while (chunk := await body.next_chunk()) is not None:
        check.update(chunk)
        yield chunk
    check.finish()


async def _parts(call: Call) -> dict[int, str] | None:
    """The MD5s of the parts in the body, see parse_parts. Other requests go on while a long list is parsed."""
    body = await _body(call)
    return parse_parts(body) if len(body) <= PARSED_AT_ONCE else await asyncio.to_thread(parse_parts, body)


async def _body(call: Call) -> bytes:
    too_large = partial(TooLarge, f"The list of parts has more than {MAX_XML} bytes")
    body = RequestBody(call, timeout=None, limit=MAX_XML, too_large=too_large)
    data = bytearray()
    async with call.deadline.enforce("Receiving the request"):
        while (chunk := await body.next_chunk()) is not None:
            data += chunk
    return bytes(data)
