"""The table from kinds of errors to HTTP statuses, and the FirecREST v2 error envelope. Knows no route."""

import math
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.responses import Response

from flamecrest.server import errors
from flamecrest.server.telemetry.trace import current_trace
from flamecrest.wire.json import dumps

STATUS: Final[Mapping[type[errors.GatewayError], int]] = {
    errors.Unauthenticated: 401,
    errors.Denied: 403,
    errors.NotFound: 404,
    errors.Gone: 410,
    errors.Conflict: 400,  # the contract: mkdir of what exists is 400
    errors.PreconditionFailed: 412,
    errors.StaleState: 409,
    errors.Invalid: 400,
    errors.ChecksumMismatch: 460,  # the tus protocol's own
    errors.Unsupported: 501,
    errors.TooLarge: 413,
    errors.Busy: 429,
    errors.Locked: 423,
    errors.Unavailable: 503,
    errors.Timeout: 408,
    errors.Upstream: 424,
}

MAX_FIELDS: Final = 50  # in one response


def status_of(error: errors.GatewayError) -> int:
    """The status of an error's kind, or of the nearest base class in the table."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500


def envelope(
    status: int,
    message: str,
    *,
    fields: Iterable[errors.Field] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response of an error. With fields it is a validation error."""
    named = [{"location": one.location, "name": one.name, "message": one.message} for one in fields]
    trace = current_trace.get()
    body = {
        "errorType": "validation" if named else "error",
        "message": message,
        "causedBy": None,
        "data": {"fields": named[:MAX_FIELDS]} if named else None,
        "user": trace.user if trace is not None else None,
    }
    return Response(dumps(body), status, headers, media_type="application/json")


def validation_failure(location: str, error: ValidationError) -> errors.Invalid:
    """Convert a validation error, field by field. The result contains no value of the request."""
    fields = tuple(_field(location, one) for one in error.errors(include_url=False, include_input=False))
    first = "; ".join(f"`{one.name}`: {one.message}" for one in fields[:5])
    return errors.Invalid(f"The request is not valid. {first}", fields=fields[:MAX_FIELDS])


def _field(location: str, error: ErrorDetails) -> errors.Field:
    """Convert one error; the field is named by the last name of its location (`workingDirectory`)."""
    names = [step for step in error["loc"] if isinstance(step, str)]
    if error["type"].startswith("union_tag"):  # the discriminator of a union
        tag = error["ctx"]["discriminator"].split("'")[-2]
        message = (
            f"Input should be one of {error['ctx']['expected_tags']}" if "tag" in error["ctx"] else "Field required"
        )
        return errors.Field(location, tag, message)
    return errors.Field(location, names[-1] if names else location, error["msg"])


def error_response(error: Exception) -> Response:
    """The response to an error. `public` goes to the caller, `detail` to the log; unexpected errors show nothing."""
    trace = current_trace.get()
    if trace is not None:
        trace.error = type(error).__name__
    if isinstance(error, errors.GatewayError):
        if trace is not None:
            trace.detail = error.detail
        return _refusal(error)
    if isinstance(error, HTTPException):  # the framework's own: an unknown route, a method a route does not have
        return envelope(error.status_code, error.detail, headers=error.headers)
    reference = f" (request id {trace.request_id})" if trace is not None else ""
    return envelope(500, f"Something went wrong inside the gateway{reference}")


def _refusal(error: errors.GatewayError) -> Response:
    status = status_of(error)
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return envelope(status, error.public, fields=error.fields, headers=headers)
