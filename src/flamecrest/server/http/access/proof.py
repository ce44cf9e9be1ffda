"""What a request shows beside its token: DPoP headers, a TLS client certificate, and where it comes from."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from flamecrest.server.auth.port import RequestProof

from .address import FROM_PROXY, request_urls
from .refused_tokens import network_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from flamecrest.server.cluster import Gateway

_MAX_CERTIFICATE: Final = 16 * 1024  # characters
_ARMOUR: Final = re.compile(r"-----(BEGIN|END) CERTIFICATE-----")


def proof_of(request: Request) -> RequestProof:
    """The proof that a request shows, and its network."""
    gateway: Gateway = request.scope["app"].gateway
    header = gateway.resource.client_certificate_header
    certificate = None
    if header is not None and request.scope.get(FROM_PROXY):
        certificate = read_certificate(request.headers.getlist(header))
    proofs = tuple(request.headers.getlist("dpop"))
    network = "" if request.client is None else network_of(request.client.host)
    return RequestProof(request.method, request_urls(request), proofs, certificate, network)


def read_certificate(values: list[str]) -> bytes | None:
    """The certificate in DER from a proxy's header; None unless there is exactly one.

    It may be PEM with percent escapes (nginx, Apache), base64 of DER (HAProxy), or that between colons (RFC 9440).
    """
    if len(values) != 1 or not 0 < len(values[0]) <= _MAX_CERTIFICATE:
        return None
    text = _ARMOUR.sub("", unquote(values[0])).strip()
    if text.startswith(":") and text.endswith(":"):
        text = text[1:-1]
    try:
        return base64.b64decode("".join(text.split()), validate=True) or None
    except ValueError:
        return None
