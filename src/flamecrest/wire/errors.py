"""The error envelope of FirecREST v2: the body of every response with a status of 400 or more."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from .casing import WireModel


class ApResponseErrorType(StrEnum):
    """Whether the request failed (error) or is not valid (validation). The class name is part of the contract."""

    ERROR = "error"
    VALIDATION = "validation"


class ApiResponseError(WireModel):
    """An error: a message for people, and for a request that is not valid its fields (`data`)."""

    error_type: ApResponseErrorType = ApResponseErrorType.ERROR
    message: str
    caused_by: list[str] | None = None
    data: dict[str, Any] | None = Field(
        default=None,
        description="For validation errors: `fields`, a list of `location`, `name` and `message`. "
        "For a job that the scheduler refuses: `kind`, such as `unknownPartition` or `quota`. "
        "For a service that is refused (503): `service`, `path`, `reason` (`down` or `maintenance`), `since`, `until`. "
        "For an unknown path: `routes` that were probably meant, if there are any.",
    )
    user: str | None = Field(default=None, description="The caller, once authenticated.")
