"""Checks of the fields of a job that every dialect needs. Each raises Invalid and names the field as on the wire."""

from __future__ import annotations

import re
from typing import Final

from flamecrest.server.errors import Field, Invalid

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NOT_TEXT: Final = re.compile(r"[\x00\ud800-\udfff]")
_MAX_LINE: Final = 4096  # characters


def check_line(field: str, value: str) -> str:
    """The value, if it is one line of text that an option may hold."""
    if _CONTROL.search(value) or len(value) > _MAX_LINE:
        raise invalid_field(field, f"must be one line of at most {_MAX_LINE} characters")
    return value


def check_absolute_path(field: str, value: str) -> str:
    """The value, if it is an absolute path."""
    if not value.startswith("/"):
        raise invalid_field(field, "must be an absolute path")
    return value


def encode_text(field: str, value: str) -> bytes:
    """The value in UTF-8, if it holds no NUL and no lone surrogate."""
    if _NOT_TEXT.search(value):
        raise invalid_field(field, "contains a NUL or an invalid character")
    return value.encode()


def invalid_field(field: str, message: str) -> Invalid:
    """The error for a field of the request body."""
    return Invalid(f"{field}: {message}", fields=(Field("body", field, message),))
