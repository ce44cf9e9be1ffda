"""Sizes, durations and times as texts with units, and the types of the wire that read them."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainValidator
from pydantic_core import PydanticCustomError, PydanticKnownError

MAX_SIZE: Final = 1 << 60  # bytes
MAX_DURATION: Final = 10 * 366 * 86400  # seconds
MAX_TIME: Final = 253402300799  # seconds since the epoch: the year 9999

_MIB: Final = 1 << 20
_PREFIXES: Final = "kmgtpe"
_SIZE: Final = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?) ?([kmgtpe]?)(i?b)?", re.IGNORECASE | re.ASCII)
_UNITS: Final = re.compile(
    r"(?:([0-9]{1,6})d)? ?(?:([0-9]{1,8})h)? ?(?:([0-9]{1,9})(?:m|min))? ?(?:([0-9]{1,10})s)?", re.ASCII
)
# ISO 8601 durations without years and months, which have no fixed length.
_ISO: Final = re.compile(r"P(?:([0-9]{1,6})D)?(?:T(?:([0-9]{1,8})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,10})S)?)?", re.ASCII)
_ISO_WEEKS: Final = re.compile(r"P([0-9]{1,4})W", re.ASCII)
_CLOCK: Final = re.compile(r"(?:([0-9]{1,4})-)?([0-9]{1,6}):([0-5][0-9]):([0-5][0-9])", re.ASCII)
_FACTORS: Final = (86400, 3600, 60, 1)
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})",
    re.ASCII,
)


def read_integer(value: Any) -> Any:
    """A value of JSON that may be an integer: `true` and `"1"` are none."""
    if isinstance(value, bool | str):
        raise PydanticKnownError("int_type")
    return value


def read_size(value: Any) -> int:
    """Read a size as whole MiB, rounded up: `4GiB`, `500MB`; `4G` means `4GiB`, as in schedulers.

    A number without a unit is refused: schedulers read it as MiB, other programs as bytes.
    """
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 40 else None
    prefix, suffix = (found[2].lower(), (found[3] or "").lower()) if found else ("", "")
    if found is None or not (prefix or suffix == "b"):
        raise PydanticCustomError("size", "must be a size with a unit, such as `4GiB`, `500MB` or `4G` (= `4GiB`)")
    base = 1000 if suffix == "b" else 1024
    whole, _, fraction = found[1].partition(".")
    scaled = int(whole + fraction) * int(base ** (_PREFIXES.index(prefix) + 1 if prefix else 0))
    size: int = -(-scaled // 10 ** len(fraction))
    if not 0 < size <= MAX_SIZE:
        raise PydanticCustomError("size_range", "must be larger than 0 and at most 1EiB")
    return -(-size // _MIB)


def read_duration(value: Any) -> int:
    """Read a duration as seconds: `1h30m`, `PT1H30M`, `1-12:00:00`, or a number of seconds."""
    seconds: int | None = value if type(value) is int else _duration(value.strip()) if isinstance(value, str) else None
    if seconds is None:
        raise PydanticCustomError(
            "duration", "must be a duration such as `1h30m`, `PT1H30M` or `1-12:00:00`, or a number of seconds"
        )
    if not 0 < seconds <= MAX_DURATION:
        raise PydanticCustomError("duration_range", "must be longer than 0 and at most 10 years")
    return seconds


def _duration(text: str) -> int | None:
    if len(text) > 60:
        return None
    if (weeks := _ISO_WEEKS.fullmatch(text)) is not None:
        return int(weeks[1]) * 7 * 86400
    for pattern in (_ISO, _UNITS, _CLOCK):
        found = pattern.fullmatch(text)
        if found is not None and any(part is not None for part in found.groups()) and not text.endswith("T"):
            return sum(int(part or 0) * factor for part, factor in zip(found.groups(), _FACTORS, strict=True))
    return None


def read_time(value: Any) -> int:
    """Read a time as seconds since the epoch: `2027-01-31T08:00:00Z`, or a number of seconds."""
    if type(value) is int:
        seconds = value
    elif isinstance(value, str) and _MOMENT.fullmatch(value):
        try:
            seconds = int(datetime.fromisoformat(value).astimezone(UTC).timestamp())
        except (ValueError, OverflowError):
            raise PydanticCustomError("time_value", "is no time of the calendar") from None
    else:
        raise PydanticCustomError(
            "time", "must be a time with its zone, such as `2027-01-31T08:00:00Z`, or seconds since the epoch"
        )
    if not 0 < seconds <= MAX_TIME:
        raise PydanticCustomError("time_range", "must be after 1970 and before the year 10000")
    return seconds


Integer = Annotated[int, BeforeValidator(read_integer)]
Size = Annotated[
    int,
    PlainValidator(read_size, json_schema_input_type=str),
    Field(examples=["4GiB", "500MB"], description="A size with its unit"),
]
Duration = Annotated[
    int,
    PlainValidator(read_duration, json_schema_input_type=str | int),
    Field(examples=["1h30m", "PT1H30M", 5400], description="A duration with units, or seconds"),
]
Time = Annotated[
    int,
    PlainValidator(read_time, json_schema_input_type=str | int),
    Field(examples=["2027-01-31T08:00:00Z", 1801382400], description="A time and its zone, or seconds since the epoch"),
]
