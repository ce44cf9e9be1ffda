"""The header WWW-Authenticate of refusals: the scheme, the reason as a code, and where to learn of the issuers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flamecrest.server.auth.possession import PROOF_ALGORITHMS
from flamecrest.server.errors import InsufficientScope, Unauthenticated

from .address import metadata_url

if TYPE_CHECKING:
    from starlette.requests import Request


def challenge(request: Request, error: Unauthenticated | InsufficientScope) -> str:
    """The value of WWW-Authenticate: RFC 6750, section 3; RFC 9449, section 7.1; RFC 9728, section 5.1."""
    scheme, words = "Bearer", {"resource_metadata": metadata_url(request)}
    if isinstance(error, InsufficientScope):
        words |= {"error": "insufficient_scope", "scope": " ".join(error.scopes)}
    elif error.code:
        words["error"] = error.code
    if isinstance(error, Unauthenticated) and error.code == "invalid_dpop_proof":
        scheme = "DPoP"
        words["algs"] = " ".join(PROOF_ALGORITHMS)
    return f"{scheme} " + ", ".join(f'{name}="{value}"' for name, value in words.items())
