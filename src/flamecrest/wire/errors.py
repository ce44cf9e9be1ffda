"""The error envelope of FirecREST v2: every answer that is not a success; knows no kind of error."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from .casing import WireModel


class ApResponseErrorType(StrEnum):
    """Whether the request failed (error) or was not understood (validation). The name is the contract's."""

    ERROR = "error"
    VALIDATION = "validation"


class ApiResponseError(WireModel):
    """What went wrong, for people (`message`) and, for a request that was not understood, field by field (`data`)."""

    error_type: ApResponseErrorType = ApResponseErrorType.ERROR
    message: str
    caused_by: list[str] | None = None
    data: dict[str, Any] | None = Field(
        default=None, description="For validation errors: `fields`, a list of `location`, `name` and `message`."
    )
    user: str | None = Field(default=None, description="The caller, once authenticated.")
