"""Names of buckets and of objects, and the sizes of parts, within the limits of S3. No I/O.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
"""

from __future__ import annotations

import hashlib
import re
from typing import Final
from urllib.parse import quote

from flamecrest.server.errors import Field, Invalid
from flamecrest.server.transfer.direct.parts import MAX_PARTS, PartPlan

LEAST_PART: Final = 5 * 1024**2  # bytes; only the last part may be smaller
LARGEST_PART: Final = 5 * 1024**3  # bytes
LONGEST_URL_LIFE: Final = 7 * 24 * 3600  # seconds, of presigned URLs of signature version 4

_BUCKET: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_OTHER: Final = re.compile(r"[^a-z0-9-]+")
_BUCKET_LENGTH: Final = 63
_HASH_DIGITS: Final = 10
_KEY_NAME: Final = 200  # characters of a file's name in a key


def bucket_name(username: str, prefix: str | None, tenant: str | None) -> str:
    """The name of a user's bucket: the prefix and the account, after the tenant and a colon if there is one.

    An account whose name cannot be in the name of a bucket gets a similar one with a hash, so that no two are equal.
    """
    name = f"{prefix or ''}{username}"
    if not _BUCKET.fullmatch(name):
        digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_DIGITS]
        similar = _OTHER.sub("-", name.lower()).strip("-")[: _BUCKET_LENGTH - _HASH_DIGITS - 1].rstrip("-")
        name = f"{similar}-{digest}" if similar else digest
    return f"{tenant}:{name}" if tenant else name


def object_key(transfer: str, path: str) -> str:
    """The key of the object of a transfer. It ends in the file's name, with what ASCII cannot hold as `_`."""
    name = re.sub(r"[^A-Za-z0-9._+=@-]", "_", path.rpartition("/")[2])[-_KEY_NAME:]
    return f"{transfer}/{name or 'file'}"


def content_disposition(path: str) -> str:
    """The header field by which browsers save a download under the file's own name (RFC 6266)."""
    name = path.rpartition("/")[2].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    plain = re.sub(r"[^A-Za-z0-9._+=@ -]", "_", name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{extended}'


def part_plan(size: int, wanted: int) -> PartPlan:
    """The parts of a file, of the wanted size as far as S3 allows. Raises Invalid for a file that is too large."""
    plan = PartPlan.of(size, min(max(wanted, LEAST_PART), LARGEST_PART))
    if plan.part_size > LARGEST_PART:
        message = f"the object store takes files of at most {MAX_PARTS * LARGEST_PART} bytes"
        raise Invalid(f"`fileSize`: {message}", fields=(Field("body", "fileSize", message),))
    return plan
