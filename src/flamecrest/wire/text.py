"""Types of texts on the wire: paths of arbitrary bytes, words without control characters.

A file name on Linux is any bytes but `/` and NUL. In Python a name is text with lone surrogates for the bytes that are
not UTF-8 (as made by os.fsdecode). JSON cannot contain them: there a name is plain text, or percent-encoded bytes
with the field `encoding` set to `percent`.
"""

import re
from typing import Annotated, Final, Literal
from urllib.parse import unquote_to_bytes

from pydantic import AfterValidator, StringConstraints, ValidationInfo
from pydantic_core import PydanticCustomError

Encoding = Literal["percent"]

PATH_BYTES: Final = 4096  # Linux' PATH_MAX: no system call takes a longer path
_ESCAPED: Final = re.compile(r"%(?:[0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_UNDECODED: Final = re.compile("[\udc80-\udcff%]")


def is_plain(name: str) -> bool:
    """Whether a name is UTF-8, and so can be written to JSON."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def percent_encode(name: str) -> str:
    """Write a name with each byte that is not UTF-8 as %XX, and each percent sign as %25."""
    return _UNDECODED.sub(lambda found: f"%{ord(found[0]) & 0xFF:02X}", name)


def percent_decode(text: str) -> str:
    """Read percent-encoded bytes. Raises ValueError for a percent sign that is not followed by two hex digits."""
    if text.count("%") != len(_ESCAPED.findall(text)):
        message = "a percent sign must be followed by two hexadecimal digits"
        raise ValueError(message)
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def check_name(text: str) -> str:
    """Return a path or file name if it is valid on Linux; raises PydanticCustomError."""
    if "\0" in text:
        raise PydanticCustomError("path_nul", "must not contain a NUL byte")
    if len(text) > PATH_BYTES or len(text.encode("utf-8", "surrogateescape")) > PATH_BYTES:
        raise PydanticCustomError("path_too_long", "must not be longer than {limit} bytes", {"limit": PATH_BYTES})
    return text


def _read_path(text: str, info: ValidationInfo) -> str:
    if info.data.get("encoding") == "percent":
        try:
            text = percent_decode(text)
        except ValueError as error:
            raise PydanticCustomError("percent_encoding", "{reason}", {"reason": str(error)}) from None
    return check_name(text)


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise PydanticCustomError("path_relative", "must be an absolute path")
    return text


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("text_nul", "must not contain a NUL byte")
    return text


def _no_control(text: str) -> str:
    if _CONTROL.search(text):
        raise PydanticCustomError("text_control", "must not contain control characters")
    return text


# A path in a message whose field `encoding`, declared before it, tells whether it is percent-encoded.
Path = Annotated[str, AfterValidator(_read_path)]
AbsolutePath = Annotated[str, AfterValidator(_read_path), AfterValidator(_absolute)]

# Free text: anything but NUL, which no program's argument or environment can hold.
Text = Annotated[str, AfterValidator(_no_nul)]

# A name in a scheduler's or operating system's tables: one line, as long as such names get.
Word = Annotated[str, StringConstraints(max_length=255), AfterValidator(_no_control)]
