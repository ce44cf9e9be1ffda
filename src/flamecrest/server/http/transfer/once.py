"""Requests that start a transfer, with an `Idempotency-Key`: a repeated one gets the answer of the first."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, Timeout, Upstream
from flamecrest.server.http.core.responses import JsonResponse
from flamecrest.server.http.jobs.specs import idempotency_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic import BaseModel

    from flamecrest.server.cluster import Permission
    from flamecrest.server.http.core.route import Call

CLEANING: Final = 10.0  # seconds to forget a request that has failed
_UNCLEAR: Final = (Timeout, Upstream)  # after which a job may have been submitted


async def once(
    call: Call,
    allowed: Permission,
    body: BaseModel,
    start: Callable[[], Awaitable[dict[str, Any]]],
    *,
    submits: bool = False,
) -> Response:
    """The answer of `start`, with status 201; with a key it is called for the first request only.

    `submits`: it submits a job, so that it is not called again when its outcome is not clear.
    """
    key = idempotency_key(call)
    if key is None:
        return JsonResponse(await start(), 201)
    answers = allowed.tracked_transfers().answers
    # ASCII JSON can hold paths that are not UTF-8
    content = json.dumps(body.model_dump(mode="json"))
    request = hashlib.sha256(f"{call.url.path}\0{content}".encode()).hexdigest()
    earlier = await answers.claim(key, request, call.deadline, submits=submits)
    if earlier is None:
        try:
            earlier = await start()
        except GatewayError as error:
            if not (submits and isinstance(error, _UNCLEAR)):
                with suppress(GatewayError):
                    await answers.forget(key, Deadline.after(CLEANING))
            raise
        await answers.keep(key, earlier, call.deadline)
    return JsonResponse(earlier, 201)
