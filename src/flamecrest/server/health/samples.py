"""The health of a cluster's services as metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flamecrest.server.telemetry.counters import Sample

from .board import Target

if TYPE_CHECKING:
    from .board import Board


def samples_of(board: Board) -> list[Sample]:
    """The last probe of each service of a cluster, and whether its requests are refused now."""
    samples = []
    for result in board.results():
        labels = (board.cluster, result.service.value, result.path or "")
        samples += [
            Sample("flamecrest_service_healthy", labels, float(result.healthy)),
            Sample("flamecrest_service_probe_seconds", labels, result.latency or 0.0),
            Sample(
                "flamecrest_service_refused",
                labels,
                float(Target(result.service, result.path) in board.refused),
            ),
        ]
    return samples
