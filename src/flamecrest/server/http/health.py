"""Routes for orchestrators and load balancers: whether the process lives, and whether it should get requests.

They need no token, are not part of the API, and are answered while the gateway stops. Neither asks anything outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response
from starlette.routing import Route

from flamecrest.server.errors import Unavailable
from flamecrest.server.http.core.responses import JsonResponse

if TYPE_CHECKING:
    from starlette.requests import Request

    from flamecrest.server.cluster import Gateway
    from flamecrest.server.health.board import ProbeResult


async def get_live(_: Request) -> Response:
    """Report that the process answers. An orchestrator restarts a process that does not."""
    return JsonResponse({"live": True})


async def get_ready(request: Request) -> Response:
    """Report whether this replica should get requests: 200, or 503 with the reason.

    Also the last probes of what all clusters need: token issuers and OpenFGA. They change nothing: with keys that were
    read before, tokens are accepted while an issuer is down.

    Also whether the audit log can be written, if there is one, and whether changes are refused because it cannot be.

    It should not while it stops, and before it has read a key of any token issuer: it could serve nobody. What is down
    for all replicas alike, such as a cluster, takes none of them out of service.
    """
    reason = request.app.unready()
    if reason is not None:
        raise Unavailable(f"Not ready: {reason}", retry_after=1)
    gateway: Gateway = request.app.gateway
    body: dict[str, Any] = {"ready": True, "dependencies": [_shown(one) for one in gateway.depends_on()]}
    if (audit := gateway.audit) is not None:
        body["audit"] = {"healthy": not audit.failing, "changesRefused": audit.refuses}
    return JsonResponse(body)


def _shown(probe: ProbeResult) -> dict[str, Any]:
    """A probe as anybody may see it: addresses and errors are in the metrics and the log."""
    return {
        "service": probe.service.value,
        "healthy": probe.healthy,
        "since": probe.since,
        "lastChecked": probe.checked,
        "latency": probe.latency,
    }


routes: Final = [Route("/health/live", get_live), Route("/health/ready", get_ready)]
