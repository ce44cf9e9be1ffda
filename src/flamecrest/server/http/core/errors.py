"""The table from kinds of errors to HTTP statuses, and the FirecREST v2 error envelope. Knows no route."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.responses import Response

from flamecrest.server import errors
from flamecrest.server.telemetry.trace import current_trace
from flamecrest.wire.job_options import models_at, similar_field
from flamecrest.wire.json import dumps

from .methods import UnknownRoute

STATUS: Final[Mapping[type[errors.GatewayError], int]] = {
    errors.Unauthenticated: 401,
    errors.Denied: 403,
    errors.InsufficientScope: 403,
    errors.NotFound: 404,
    errors.Gone: 410,
    errors.Conflict: 400,  # the contract: mkdir of what exists is 400
    errors.PreconditionFailed: 412,
    errors.StaleState: 409,
    errors.InProgress: 409,
    errors.Invalid: 400,
    errors.KeyReused: 422,
    errors.ChecksumMismatch: 460,  # the tus protocol's own
    errors.Unsupported: 501,
    errors.TooLarge: 413,
    errors.Busy: 429,
    errors.Locked: 423,
    errors.Unavailable: 503,
    errors.Timeout: 408,
    errors.Upstream: 424,
}

_JOBS: Final = frozenset({"job", "jobs", "jobIds", "dependencies"})  # the bodies of requests about jobs
_MESSAGES: Final = {  # in place of what the library says
    "bool_parsing": "Input should be true or false",
    "dict_type": "Input should be an object",
    "int_parsing_size": "Input is too large a number",
    "model_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
}
FORMS: Final = {  # of values, by the field: in place of the regular expression that the library shows
    "sort": "must be submit, start, end, name, state, priority or id; with `-` in front descending",
    "type": "must be one or more of the letters `-`, d, l, p, s, b, c, as in the first column of `ls -l`",
    "cursor": "must be the `nextCursor` of the page before",
    "job_id": "must be the id of a job, such as 123, 123_4 or 123.server",
    "transfer_id": "must be the id of a transfer or of its job",
    "jobIds": "must be ids of jobs, such as 123, 123_4 or 123.server",
    "signal": "must be the name or number of a signal, such as USR1 or 10",
    "sha256": "must be 64 hexadecimal digits",
    "address": "must be an address of mail, such as me@example.org",
    "paths": "must be absolute paths",
    "clusters": "must be names without control characters",
    "name": "must not contain control characters",
    "description": "must not contain control characters",
    "mode": "must be octal, such as 644",
}
MAX_FIELDS: Final = 50  # in one response
MAX_NAME: Final = 100  # characters of an unknown field's name that are compared with others
MAX_ERRORS: Final = 1000  # validation errors that are read: pydantic gives all of them, or none


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
    refusal: str | None = None,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response of an error. With fields it is a validation error, unless a scheduler has refused them."""
    named = [{"location": one.location, "name": one.name, "message": one.message} for one in fields]
    data: dict[str, Any] = dict(details or {})
    if named:
        data["fields"] = named[:MAX_FIELDS]
    if refusal is not None:
        data["kind"] = refusal
    trace = current_trace.get()
    body = {
        "errorType": "validation" if named and refusal is None else "error",
        "message": message,
        "causedBy": None,
        "data": data or None,
        "user": trace.user if trace is not None else None,
    }
    return Response(dumps(body), status, headers, media_type="application/json")


def validation_failure(location: str, error: ValidationError, model: type[BaseModel] | None = None) -> errors.Invalid:
    """Convert a validation error of a model, field by field. The result contains no value of the request."""
    if (count := error.error_count()) > MAX_ERRORS:
        return errors.Invalid(f"The request is not valid: it has {count} errors")
    fields = tuple(_field(location, one, model) for one in error.errors(include_url=False, include_input=False))
    first = "; ".join(f"`{one.name}`: {one.message}" for one in fields[:5])
    return errors.Invalid(f"The request is not valid. {first}", fields=fields[:MAX_FIELDS])


def _field(location: str, error: ErrorDetails, model: type[BaseModel] | None) -> errors.Field:
    """Convert one error; the field is named by the last name of its location (`workingDirectory`).

    A field of a job is named by its whole place (`resources.nodes`, `dependencies.0.kind`, `jobs.3.array`).
    """
    names = [step for step in error["loc"] if isinstance(step, str)]
    if len(error["loc"]) > 1 and error["loc"][0] in _JOBS:
        names = [".".join(map(str, error["loc"])).removeprefix("job.")]
    if error["type"].startswith("union_tag"):  # the discriminator of a union
        tag = error["ctx"]["discriminator"].split("'")[-2]
        message = (
            f"Input should be one of {error['ctx']['expected_tags']}" if "tag" in error["ctx"] else "Field required"
        )
        return errors.Field(location, tag, message)
    message = _MESSAGES.get(error["type"], error["msg"])
    if error["type"] == "string_pattern_mismatch" and names:
        field = next((part for part in reversed(names[-1].split(".")) if not part.isdecimal()), "")
        message = FORMS.get(field, "has not the form that is described for it")
    if error["type"] == "extra_forbidden" and names:
        message = _unknown_field(error["loc"], model)
    return errors.Field(location, names[-1] if names else location, message)


def _unknown_field(place: tuple[str | int, ...], model: type[BaseModel] | None) -> str:
    """What to say of a field that this request does not have: only fields that it has are suggested."""
    name = str(place[-1])[:MAX_NAME]
    near = None if model is None else similar_field(name, models_at(model, place[:-1]))
    if near is not None:
        return f"Unknown field; did you mean {near}?"
    return "Unknown field; give the fields without `job`" if place == ("job",) else "Unknown field"


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
        near = {"routes": error.near} if isinstance(error, UnknownRoute) and error.near else None
        return envelope(error.status_code, error.detail, details=near, headers=error.headers)
    reference = f" (request id {trace.request_id})" if trace is not None else ""
    return envelope(500, f"Something went wrong inside the gateway{reference}")


def _refusal(error: errors.GatewayError) -> Response:
    status = status_of(error)
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = error.challenge or "Bearer"
    elif error.challenge is not None:
        headers["WWW-Authenticate"] = error.challenge
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(round(error.retry_after, 3))))
    return envelope(
        status, error.public, fields=error.fields, refusal=error.refusal, details=error.details, headers=headers
    )
