"""Routes of the API's metadata as an OAuth 2.0 protected resource (RFC 9728): clients learn there who issues tokens."""

from typing import Any, Final
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flamecrest.server.auth.possession import PROOF_ALGORITHMS
from flamecrest.server.cluster import Gateway
from flamecrest.server.http.access.address import WELL_KNOWN, public_url
from flamecrest.server.http.core.responses import JsonResponse


async def get_metadata(request: Request) -> Response:
    """Show which issuers' tokens are accepted, and how they are sent. Needs no token."""
    gateway: Gateway = request.app.gateway
    resource, known = public_url(request), gateway.resource
    path = request.path_params.get("path", "")
    if path and f"/{path}" != urlsplit(resource).path:
        raise HTTPException(404)
    shown: dict[str, Any] = {
        "resource": resource,
        "resource_name": "Flamecrest",
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": list(PROOF_ALGORITHMS),
        "dpop_bound_access_tokens_required": known.bound_only,
        "tls_client_certificate_bound_access_tokens": known.client_certificate_header is not None,
    }
    if known.issuers:
        shown["authorization_servers"] = list(known.issuers)
    if known.scopes:
        shown["scopes_supported"] = list(known.scopes)
    return JsonResponse(shown)


routes: Final = [Route(WELL_KNOWN, get_metadata), Route(WELL_KNOWN + "/{path:path}", get_metadata)]
