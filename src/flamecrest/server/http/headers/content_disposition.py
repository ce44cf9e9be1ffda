"""The Content-Disposition header: parses and writes file names (RFC 6266, RFC 7578). Pure."""

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

# One parameter: a token, then a quoted string (a backslash escapes the next byte) or a token.
_PARAMETER: Final = re.compile(
    rb"""(?:;[ \t]*)+([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*("(?:\\.|[^"\\])*"|[^;"]*)[ \t]*""", re.DOTALL
)
_QUOTED_PAIR: Final = re.compile(rb'\\([\\"])')
# Escapes of form encoders in quoted strings (HTML standard; httpx also escapes tabs).
_FORM_ESCAPE: Final = re.compile(rb"%(09|0A|0D|22)")


def parse_parameters(header: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Split a header into its value and its parameters, names in lower case, values as written but unquoted.

    Raises ValueError if the syntax is invalid.
    """
    value, semicolon, _ = header.partition(b";")
    rest = header[len(value) :] if semicolon else b""
    found: dict[bytes, bytes] = {}
    while rest.strip(b"; \t"):
        match = _PARAMETER.match(rest)
        if match is None:
            message = "not a list of parameters"
            raise ValueError(message)
        name, text = match[1].lower(), match[2]
        text = _QUOTED_PAIR.sub(rb"\1", text[1:-1]) if text.startswith(b'"') else text.rstrip(b" \t")
        if name in found:
            message = "a parameter is given twice"
            raise ValueError(message)
        found[name] = text
        rest = rest[match.end() :]
    return value.strip().lower(), found


def file_name(given: dict[bytes, bytes]) -> str | None:
    """The file name in the parameters of a part; bytes that are not UTF-8 become lone surrogates. None without one.

    `filename*` (RFC 5987) takes precedence over `filename`, in which forms write a quote as %22, and a backslash
    once or twice. Raises ValueError for an unknown character set.
    """
    extended = given.get(b"filename*")
    if extended is not None:
        charset, _, rest = extended.partition(b"'")
        raw = unquote_to_bytes(rest.partition(b"'")[2])
        match charset.lower():
            case b"utf-8":
                return raw.decode("utf-8", "surrogateescape")
            case b"iso-8859-1":
                return raw.decode("latin-1")
        message = "unknown character set in filename*"
        raise ValueError(message)
    plain = given.get(b"filename")
    if plain is None:
        return None
    return _FORM_ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), plain).decode("utf-8", "surrogateescape")


def attachment_header(name: str) -> str:
    """The header that names a download: in ASCII for old clients, and exactly."""
    safe = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    exact = quote(name.encode("utf-8", "surrogateescape"), safe="")
    return f"attachment; filename=\"{safe}\"; filename*=UTF-8''{exact}"
