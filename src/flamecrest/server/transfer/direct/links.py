"""Signed URLs: who may send or fetch which part of which file until when. No I/O.

A URL contains a ticket, which says what it is for, and a signature: HMAC-SHA256 of the method and the ticket. It opens
that and nothing else. There is one spelling of each URL; any other is refused.

The URLs of 10,000 parts are made at once, so the signatures of GROUP parts in a row have one HMAC: it is the key of
SHAKE-256, and each of the parts has SIGNATURE bytes of its output.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import posixpath
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote

from flamecrest.server.errors import Denied
from flamecrest.server.files.paths import within
from flamecrest.server.transfer.direct.parts import MAX_PARTS, NO_PARTS, PartPlan

Method = Literal["PUT", "POST", "DELETE", "GET"]
Resource = Literal["parts", "uploads", "content"]

MAX_TICKET: Final = 12 * 1024  # characters: two paths of 4096 bytes at most
GROUP: Final = 100  # parts
SIGNATURE: Final = 30  # bytes of a part's: 40 characters
_VERSION: Final = b"1"
_PART_DIGITS: Final = len(str(MAX_PARTS))
_SIZE_DIGITS: Final = 19


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the URLs of one transfer are for."""

    user: str
    cluster: str
    transfer: str
    path: str  # as in the request
    data: str = ""  # upload: the path of the file that the parts are written to
    plan: PartPlan = NO_PARTS  # upload: sizes of the file and of its parts
    expires: int = 0  # seconds since the epoch
    depth: int = 0  # names of `path`, from the root, that make the folder which links must not lead out of; 0: no limit

    @property
    def folder(self) -> str:
        """The folder that links must not lead out of; "/" without a limit."""
        return "/" + "/".join(_names(self.path)[: self.depth])

    def packed(self) -> bytes:
        """The ticket as bytes. Two tickets have the same bytes only if they are equal: no field contains NUL."""
        numbers = (b"%d" % number for number in (self.plan.size, self.plan.part_size, self.expires))
        texts = (os.fsencode(text) for text in (self.user, self.cluster, self.transfer, self.path, self.data))
        depth = (b"%d" % self.depth,) if self.depth else ()
        return b"\0".join((_VERSION, *numbers, *texts, *depth))

    @classmethod
    def parse(cls, packed: bytes) -> Ticket:
        """Parse `packed`. Raises ValueError for anything else."""
        version, size, part_size, expires, *texts = packed.split(b"\0")
        user, cluster, transfer, path, data, *depth = map(os.fsdecode, texts)
        plan = PartPlan(_number(size), _number(part_size))
        deep = _number(os.fsencode(depth[0])) if len(depth) == 1 else 0
        ticket = cls(user, cluster, transfer, path, data, plan, _number(expires), deep)
        if version != _VERSION or ticket.packed() != packed:
            raise ValueError("not in canonical form")
        return ticket


def depth_within(path: str, folders: Sequence[str]) -> int:
    """The depth of a ticket: the number of names of the deepest of the folders that contains the path; 0 without one.

    The root as the folder is no limit.
    """
    return max((len(_names(folder)) for folder in folders if within(path, folder)), default=0)


def _names(path: str) -> list[str]:
    return [name for name in posixpath.normpath(path).split("/") if name]


def _number(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _SIZE_DIGITS:
        raise ValueError("no number")
    return int(digits)


class LinkSigner:
    """Makes and verifies signed URLs. Replicas need the same key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def random(cls) -> LinkSigner:
        """A signer with a new key: its URLs end with the process."""
        return cls(secrets.token_bytes(32))

    def __repr__(self) -> str:
        return "<LinkSigner>"

    def part_urls(self, ticket: Ticket) -> tuple[str, Sequence[str]]:
        """The URLs by which all parts are sent by PUT: what all begin with, and how each goes on."""
        packed = ticket.packed()
        sums = b"".join(
            self._part_sums("PUT", "parts", group, packed) for group in range((ticket.plan.count - 1) // GROUP + 1)
        )
        texts, width = base64.urlsafe_b64encode(sums).decode(), SIGNATURE * 4 // 3
        return f"{_path(ticket, 'parts', packed)}/", [
            f"{number}?signature={texts[(number - 1) * width : number * width]}"
            for number in range(1, ticket.plan.count + 1)
        ]

    def url(self, method: Method, resource: Resource, ticket: Ticket) -> str:
        """The URL of the whole transfer for a method: POST completes an upload, DELETE aborts it, GET downloads."""
        packed = ticket.packed()
        return f"{_path(ticket, resource, packed)}?signature={self._signature(method, resource, packed)}"

    def verify(self, method: Method, resource: Resource, text: str, part: str, query: bytes, now: float) -> Ticket:
        """The ticket in a URL. Raises Denied unless the URL is one that this signer has made, and has not expired."""
        packed = _decode(text)
        given = query.removeprefix(b"signature=") if query.startswith(b"signature=") else b""
        signed = (
            self._part_signature(method, resource, part, packed) if part else self._signature(method, resource, packed)
        )
        if signed is None or not hmac.compare_digest(given, signed.encode()):
            raise Denied("The signature of the URL is not valid")
        try:
            ticket = Ticket.parse(packed)
        except ValueError:
            raise Denied("The signature of the URL is not valid", detail="signed by another version") from None
        if ticket.expires <= now:
            raise Denied("The URL has expired. Start the transfer again.")
        return ticket

    def seal(self, purpose: str, data: bytes) -> str:
        """A signature of data that the gateway keeps on a cluster, where its user can change it."""
        return self._signature("", purpose, data)

    def _signature(self, method: str, resource: str, packed: bytes) -> str:
        return base64.urlsafe_b64encode(self._hmac(method, resource, "", packed))[:43].decode()

    def _part_signature(self, method: str, resource: str, part: str, packed: bytes) -> str | None:
        """The signature of a part; None for a text that is not the number of one."""
        if len(part) > _PART_DIGITS or not part.isdecimal() or not part.isascii() or part.startswith("0"):
            return None
        group, place = divmod(int(part) - 1, GROUP)
        sums = self._part_sums(method, resource, group, packed)
        return base64.urlsafe_b64encode(sums[place * SIGNATURE : (place + 1) * SIGNATURE]).decode()

    def _part_sums(self, method: str, resource: str, group: int, packed: bytes) -> bytes:
        """The signatures of the parts of a group, one after the other."""
        return hashlib.shake_256(self._hmac(method, resource, str(group), packed)).digest(GROUP * SIGNATURE)

    def _hmac(self, method: str, resource: str, group: str, packed: bytes) -> bytes:
        return hmac.digest(self._key, f"{method}\n{resource}\n{group}\n".encode() + packed, "sha256")


def _path(ticket: Ticket, resource: Resource, packed: bytes) -> str:
    text = base64.urlsafe_b64encode(packed).rstrip(b"=").decode()
    return f"/filesystem/{quote(ticket.cluster, safe='')}/transfer/{resource}/{text}"


def _decode(text: str) -> bytes:
    """The bytes of a ticket in a URL; b"" for a text that is not in canonical form, which no signature fits."""
    if len(text) > MAX_TICKET:
        return b""
    try:
        packed = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
    return packed if base64.urlsafe_b64encode(packed).rstrip(b"=").decode() == text else b""
