"""Routes of `/tokens`: callers make, list and revoke tokens of the gateway that can do less than their own."""

import posixpath
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from flamecrest.server.auth.narrow.restriction import Restriction
from flamecrest.server.auth.narrow.tokens import NarrowToken, NarrowTokens
from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import Invalid, NotFound
from flamecrest.server.files.paths import check_path
from flamecrest.server.http.core.openapi import ERRORS
from flamecrest.server.http.core.responses import JsonResponse
from flamecrest.server.http.core.route import Call, GatewayRoute
from flamecrest.server.telemetry.trace import current_trace
from flamecrest.wire import tokens as wire

router = APIRouter(prefix="/tokens", tags=["tokens"], route_class=GatewayRoute, responses=ERRORS)


@router.post("", status_code=201, response_model=wire.CreatedToken)
async def post_token(call: Call, body: wire.TokenRequest) -> Response:
    """Make a token for a workflow, a colleague or an agent. It acts as the caller, within its limits."""
    made, token = await _tokens(call).issue(
        call.identity, _restriction(call, body), life=body.lifetime, uses=body.uses, description=body.description
    )
    _note(f"made the token {made.id}")
    return JsonResponse({**_shown(made), "token": token}, 201)


@router.get("", response_model=wire.TokenList)
async def get_tokens(call: Call) -> Response:
    """List the caller's tokens that have not expired."""
    found = await _tokens(call).owned(call.identity)
    return JsonResponse({"tokens": [_shown(one) for one in found]})


@router.delete("/{token_id}", status_code=204)
async def delete_token(call: Call, token_id: str) -> Response:
    """Revoke a token of the caller. It is refused from now on."""
    await _tokens(call).revoke(call.identity, token_id)
    _note(f"revoked the token {token_id}")
    return Response(status_code=204)


def _note(text: str) -> None:
    """Name a token in the access log and the audit log."""
    trace = current_trace.get()
    if trace is not None:
        trace.detail = text
        trace.decisions = []  # nobody decides, and it is a change to record


def _tokens(call: Call) -> NarrowTokens:
    tokens = call.gateway.tokens
    if tokens is None:
        raise NotFound("The centre has not enabled tokens of the gateway (its operators: the setting `auth.tokens`)")
    return tokens


def _restriction(call: Call, body: wire.TokenRequest) -> Restriction:
    """The limits of a request. Raises Invalid for what could never be used, or would be no limit."""
    for path in body.paths:
        if ".." in path.split("/") or "\0" in path:
            raise Invalid("A path of a token must be absolute and have no `..`")
    verbs = frozenset(Verb(verb) for verb in body.verbs)
    if body.paths and Verb.JOBS_SUBMIT in verbs:
        raise Invalid("A token for paths cannot have jobs:submit: scripts and commands in jobs can use all files")
    named = [call.gateway.cluster(name) for name in body.clusters]
    roots = [root for cluster in named or call.gateway.clusters.values() for root in cluster.roots]
    for path in body.paths:
        check_path(path, roots, "paths")
    clusters = tuple(cluster.name.lower() for cluster in named)
    paths = tuple("/" + posixpath.normpath(path).lstrip("/") for path in body.paths)
    return Restriction(verbs, clusters, paths, tuple(body.job_ids))


def _shown(token: NarrowToken) -> dict[str, Any]:
    """The fields of a wire TokenInfo."""
    limits = token.restriction.shown()
    return {
        "id": token.id,
        "description": token.description,
        "verbs": limits["verbs"],
        "clusters": limits["clusters"],
        "paths": limits["paths"],
        "jobIds": limits["jobs"],
        "created": int(token.created),
        "expires": int(token.expires),
        "uses": token.uses,
        "used": token.used,
        "revoked": token.revoked,
    }
