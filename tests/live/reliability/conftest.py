"""What the tests of faults have in common: gateways that close idle connections soon, and clients that keep asking."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.live.fault_world import World
from tests.live.faults import Sshd
from tests.live.process import Server

from .observed import Fault
from .traffic import Ask, Traffic
from .writes import Uploads

SOON: dict[str, float] = {"idle_timeout": 1, "keep_alive": 1}


class Scene:
    """A gateway under traffic of two users."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.users = (world.site.user, world.site.second().user)
        self.traffic = Traffic()
        self.server: Server | None = None
        self.uploads: Uploads | None = None

    def settings(self, node: Sshd | None, *, ssh: Mapping[str, Any] | None = None, **timeouts: Any) -> dict[str, Any]:
        """The configuration of a gateway that closes idle connections soon. `ssh`: settings of the cluster's."""
        settings = self.world.settings(node, **SOON | timeouts)
        settings["clusters"][0]["ssh"] |= ssh or {}
        settings["clusters"][0]["probing"] = {"retry_interval": 1}
        return settings

    def serve(self, settings: dict[str, Any], port: int = 0, before: Sequence[str] = ()) -> Server:
        """Start the gateway; on a port, to start another one there later. `before`: words before the command."""
        self.server = self.world.run(settings, port, before)
        return self.server

    def asks(self, user: str, method: str, path: str, **options: Any) -> Ask:
        """A request of the user, over a connection of its own."""
        assert self.server is not None
        client = self.world.client(self.server, user)
        return lambda: client.request(method, path, **options)

    def files(self) -> None:
        """Two users who read, one who runs commands, one who writes."""
        self.reads()
        self.upload()

    def reads(self) -> None:
        for user in self.users:
            self.traffic.add("stat", self.asks(user, "GET", self.operation("stat"), params=self.home(user)))
        self.traffic.add("ls", self.asks(self.users[1], "GET", self.operation("ls"), params=self.home(self.users[1])))
        bashrc = {"path": f"{self.world.site.home(self.users[1])}/.bashrc"}
        self.traffic.add("checksum", self.asks(self.users[1], "GET", self.operation("checksum"), params=bashrc))

    def upload(self, folder: Path | None = None) -> None:
        assert self.server is not None
        self.uploads = Uploads(self.world, self.world.client(self.server, self.users[0]), self.users[0], folder)
        self.traffic.add("upload", self.uploads)

    def operation(self, name: str) -> str:
        return f"{self.world.ops}/{name}"

    def home(self, user: str) -> dict[str, str]:
        return {"path": self.world.site.home(user)}

    def fault(self, key: str, *nodes: Sshd, from_start: bool = False) -> Fault:
        assert self.server is not None
        made = Fault(key, lambda: self.server.pid if self.server else 0, nodes, self.traffic, from_start=from_start)
        if self.uploads is not None:
            made.checks.append(self.uploads.check)
        return made


@pytest.fixture
def scene(world: World) -> Scene:
    if any(name.startswith("FLAMECREST_LIVE_") for name in os.environ):
        pytest.skip("another site than tests/live/centre")
    return Scene(world)
