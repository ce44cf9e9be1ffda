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
        default=None, description="For validation errors: `fields`, a list of `location`, `name` and `message`."
    )
    user: str | None = Field(default=None, description="The caller, once authenticated.")
