"""SIGTERM under load: what has begun is finished, and a new process on the same port goes on."""

from __future__ import annotations

import os
import signal

from tests.live.faults import until
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
