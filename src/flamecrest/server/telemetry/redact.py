"""Redaction: tokens, private keys and signatures are replaced before a text is logged."""

from __future__ import annotations

import re

# JSON Web Token, bearer header, PEM block, signature of a presigned URL
_SECRET = re.compile(
    r"eyJ[\w-]{8,}(?:\.[\w-]*){0,2}"
    r"|(?<=[Bb]earer )[^\s'\"]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<=X-Amz-Signature=)\w+",
    re.DOTALL,
)


def redact(text: str) -> str:
    """Replace everything that looks like a token, a private key or a signature with `[redacted]`."""
    return _SECRET.sub("[redacted]", text)
