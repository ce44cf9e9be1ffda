"""The header `Request-Timeout`: the time, in seconds, after which a caller has no use for the answer."""

from __future__ import annotations

import math
from typing import Final

from flamecrest.server.errors import Field, Invalid

REQUEST_TIMEOUT: Final = "flamecrest.request_timeout"  # key of a scope: the value of the header, if there is one
NAME: Final = "Request-Timeout"


def seconds_of(value: bytes) -> float:
    """The header's value. Raises Invalid if it is no number greater than 0."""
    found = number(value.decode("latin-1"))
    if not 0 < found < math.inf:
        message = "must be a number of seconds, greater than 0"
        raise Invalid(f"`{NAME}` {message}", fields=(Field("header", NAME, message),))
    return found


def number(text: str) -> float:
    """A number that may have a fraction; NaN for any other text."""
    try:
        return float(text) if text.isascii() and len(text) <= 20 else math.nan
    except ValueError:
        return math.nan
