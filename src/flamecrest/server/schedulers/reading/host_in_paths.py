"""The host in the paths of a job's files (`%N`), which is known when the job has started."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import GatewayError

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.values import JobMetadata, Node

_HOST: Final = "%N"


async def with_host(
    found: JobMetadata, nodes: Callable[[Deadline], Awaitable[list[Node]]], deadline: Deadline
) -> JobMetadata:
    """Put the host into the paths. It stays `%N` if the job has no node yet, or the nodes cannot be asked for."""
    paths = (found.standard_input, found.standard_output, found.standard_error)
    if found.node is None or not any(path is not None and _HOST in path for path in paths):
        return found
    try:
        hosts = {node.name: node.hostname for node in await nodes(deadline)}
    except GatewayError:
        return found
    host = (hosts.get(found.node) or found.node).partition(".")[0]
    stdin, stdout, stderr = (None if path is None else path.replace(_HOST, host) for path in paths)
    return replace(found, standard_input=stdin, standard_output=stdout, standard_error=stderr)
