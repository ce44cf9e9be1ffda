"""The gateway's processes end or hang: SIGTERM, and workers that are killed or do nothing."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.live.faults import children, until
from tests.live.process import answers, free_port

from .conftest import Scene


def test_sigterm_under_load(scene: Scene) -> None:
    node, port = scene.world.sshd(), free_port()
    first = scene.serve(scene.settings(node), port)
    scene.files()
    with scene.fault("sigterm", node) as fault, fault.lasts():
        os.kill(first.pid, signal.SIGTERM)
        until(lambda: not answers(first.url), "the old process has ended")
        fault.until_noticed()
        scene.serve(scene.settings(node), port)
    begun = [one for one in scene.traffic.samples if one.begun < fault.began < one.ended]
    assert all(one.served or one.status == 503 for one in begun), begun


@pytest.mark.parametrize(("key", "number"), [("worker-killed", signal.SIGKILL), ("worker-frozen", signal.SIGSTOP)])
def test_a_worker_ends_or_hangs(scene: Scene, key: str, number: signal.Signals) -> None:
    """It is replaced, and the other one serves meanwhile. Requests of the one that hangs end with it."""
    node = scene.world.sshd()
    settings: dict[str, Any] = scene.settings(node) | {"server": {"workers": 2, "worker_timeout": 4}}
    server = scene.serve(settings)
    scene.files()
    with scene.fault(key, node) as fault, fault.lasts():
        before = workers(server.pid)
        os.kill(before[0], number)
        until(lambda: before[0] not in workers(server.pid) and len(workers(server.pid)) == 2, "it is replaced")
        fault.until_served()
    assert before[1] in workers(server.pid)
    assert ("a worker hangs" in server.log.read_text()) == (number == signal.SIGSTOP)


def workers(parent: int) -> list[int]:
    """The worker processes, in the order of their start."""
    return sorted(children(parent))
