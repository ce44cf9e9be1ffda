"""The health of a cluster's services as metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flamecrest.server.telemetry.counters import Sample

from .board import Target

if TYPE_CHECKING:
    from .board import Board, ProbeResult


def samples_of(board: Board) -> list[Sample]:
    """The last probe of each service of a cluster, and whether its requests are refused now."""
    refused = [
        Sample(
            "flamecrest_service_refused",
            _labels(board, result),
            float(Target(result.service, result.path) in board.refused),
        )
        for result in board.results()
    ]
    return [*probe_samples(board), *refused]


def probe_samples(board: Board) -> list[Sample]:
    """The last probe of each service. `cluster` is empty for the services of the gateway itself."""
    samples = []
    for result in board.results():
        labels = _labels(board, result)
        samples += [
            Sample("flamecrest_service_healthy", labels, float(result.healthy)),
            Sample("flamecrest_service_probe_seconds", labels, result.latency or 0.0),
        ]
    return samples


def _labels(board: Board, result: ProbeResult) -> tuple[str, str, str]:
    return board.cluster, result.service.value, result.path or ""
