"""How far a warm request may walk: the budgets of files and functions between the HTTP server and the cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import walk

# (files, functions), timers not counted; to be lowered, never raised
BUDGETS = {"stat": (21, 80), "submit": (32, 127), "upload": (28, 104)}


@pytest.mark.anyio
async def test_walks_stay_within_their_budgets(tmp_path: Path) -> None:
    """All flows over one sandbox: to start one takes longer than the requests."""
    walks = {}
    async with walk.sandbox_client(tmp_path / "centre") as (client, centre):
        for flow in walk.FLOWS:
            walks[flow] = await walk.measure(client, centre, flow)
    over = [
        f"{flow}:\n{walked}"
        for flow, walked in walks.items()
        if len(walked.files) > BUDGETS[flow][0] or len(walked.steps) > BUDGETS[flow][1]
    ]
    assert not over, "\n\n".join(over)
