"""Routes of `/status`: liveness, systems and their health, nodes, partitions, reservations, the caller's account."""

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.cluster import Gateway, Permission
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unavailable, Unsupported
from flamecrest.server.http.core.openapi import ERRORS, NO_SECURITY
from flamecrest.server.http.core.responses import JsonResponse
from flamecrest.server.http.core.route import Call, GatewayRoute, OpenRoute
from flamecrest.server.http.core.shared_answers import NOT_MODIFIED, Encoded, SharedResponse
from flamecrest.server.schedulers.values import Node, Partition, Reservation
from flamecrest.wire import status as wire

router = APIRouter(prefix="/status", tags=["status"], route_class=GatewayRoute, responses=ERRORS)
system_router = APIRouter(prefix="/status/{system_name}", tags=["status"], route_class=GatewayRoute, responses=ERRORS)
open_router = APIRouter(prefix="/status", tags=["status"], route_class=OpenRoute, responses=ERRORS)


@open_router.get("/liveness/", response_model=wire.GetLiveness, openapi_extra=NO_SECURITY)
@open_router.get("/liveness", response_model=wire.GetLiveness, include_in_schema=False)
async def get_liveness(request: Request) -> Response:
    """Report that the gateway is alive, and when each system was last probed. Needs no token."""
    gateway: Gateway = request.app.gateway
    boards = {cluster.name: cluster.board for cluster in gateway.clusters.values()}
    runs = {name: board.last_run for name, board in boards.items() if board.last_run is not None}
    oldest = max((board.age() or 0 for board in boards.values()), default=0)
    return JsonResponse(wire.GetLiveness(healthcheck_runs=runs, last_update=int(oldest)).model_dump(mode="json"))


@router.get("/systems", response_model=wire.GetSystemsResponse)
async def get_systems(call: Call) -> Response:
    """Show the systems that the caller may use, with their services, file systems and health."""
    clusters = await call.gateway.usable_by(call.identity, call.deadline)
    systems = [cluster.describe() for cluster in clusters]
    return JsonResponse({"systems": [system.model_dump(mode="json", by_alias=True) for system in systems]})


@system_router.get("/nodes", response_model=wire.GetNodesResponse, responses=NOT_MODIFIED)
async def get_nodes(call: Call) -> Response:
    """List the compute nodes."""
    allowed = await call.allow(Verb.STATUS)
    scheduler = allowed.scheduler()
    nodes = await scheduler.nodes(call.deadline)
    return SharedResponse(call, Encoded.of_list("nodes", nodes, _node), scheduler.age)


@system_router.get("/partitions", response_model=wire.GetPartitionsResponse, responses=NOT_MODIFIED)
async def get_partitions(call: Call, show_hidden: bool = False) -> Response:
    """List the partitions."""
    allowed = await call.allow(Verb.STATUS)
    scheduler = allowed.scheduler()
    found = await scheduler.partitions(call.deadline, hidden=show_hidden)
    return SharedResponse(call, Encoded.of_list("partitions", found, _partition), scheduler.age)


@system_router.get("/reservations", response_model=wire.GetReservationsResponse, responses=NOT_MODIFIED)
async def get_reservations(call: Call) -> Response:
    """List current and future reservations."""
    allowed = await call.allow(Verb.STATUS)
    scheduler = allowed.scheduler()
    found = await scheduler.reservations(call.deadline)
    return SharedResponse(call, Encoded.of_list("reservations", found, _reservation), scheduler.age)


@system_router.get("/capabilities", response_model=wire.GetCapabilitiesResponse)
async def get_capabilities(call: Call) -> Response:
    """Show which fields of a job and which operations the system's scheduler has. It is not asked."""
    allowed = await call.allow(Verb.STATUS)
    can = allowed.scheduler().capabilities
    shown = {"fields": can.fields, "changes": can.changes, "operations": can.operations}
    return JsonResponse({name: sorted(values) for name, values in shown.items()})


@system_router.get("/userinfo", response_model=wire.UserInfoResponse)
async def get_userinfo(call: Call) -> Response:
    """Show the caller's user and groups on the system, and the accounts that jobs can be charged to."""
    allowed = await call.allow(Verb.STATUS)
    user, accounts = await asyncio.gather(allowed.user(call.deadline), _accounts(allowed, call.deadline))
    one, group = _named(user.user.id, user.user.name), _named(user.group.id, user.group.name)
    groups = [_named(group.id, group.name) for group in user.groups]
    return JsonResponse({"user": one, "group": group, "groups": groups, "accounts": accounts})


async def _accounts(allowed: Permission, deadline: Deadline) -> list[dict[str, Any]] | None:
    """The caller's accounts; None if the scheduler has none or is down: user and groups are valid without them."""
    try:
        found = await allowed.scheduler().accounts(deadline)
    except (Unavailable, Unsupported):
        return None
    return None if found is None else [{"name": one.name, "default": one.default} for one in found]


def _named(number: str, name: str) -> dict[str, str]:
    return {"id": number, "name": name}


def _partition(one: Partition) -> dict[str, Any]:
    """The fields of a wire PartitionModel."""
    return {"name": one.name, "cpus": one.cpus, "totalNodes": one.nodes, "partition": one.state}


def _reservation(one: Reservation) -> dict[str, Any]:
    """The fields of a wire ReservationModel."""
    return {
        "name": one.name,
        "nodeList": one.nodes,
        "endTime": one.end,
        "startTime": one.start,
        "features": one.features,
        "state": one.state,
    }


def _node(node: Node) -> dict[str, Any]:
    """The fields of a wire NodeModel."""
    return {
        "sockets": node.sockets,
        "cores": node.cores,
        "threads": node.threads,
        "cpus": node.cpus,
        "cpuLoad": node.cpu_load,
        "freeMemory": node.free_memory,
        "features": node.features,
        "name": node.name,
        "address": node.address,
        "hostname": node.hostname,
        "state": list(node.states),
        "partitions": list(node.partitions),
        "weight": node.weight,
        "allocMemory": node.allocated_memory,
        "allocCpus": node.allocated_cpus,
        "idleCpus": node.idle_cpus,
    }
