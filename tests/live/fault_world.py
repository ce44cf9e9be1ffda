"""The environment of fault tests: gateways with short deadlines, SSH servers to break, clients of any user."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from flamecrest.sandbox.issuer import Issuer

from . import faults
from .faults import Sshd
from .process import Server, gateway
from .site import Site, write_settings

SHORT = {"connection": 2, "login": 2, "command_execution": 6, "idle_timeout": 60}


class World:
    """Gateways and SSH servers for one test."""

    def __init__(self, site: Site, issuer: Issuer, folder: Path, stack: ExitStack) -> None:
        self.site = site
        self.issuer = issuer
        self.folder = folder
        self.stack = stack

    def sshd(self, root: Path = Path("/"), limits: Sequence[str] = (), **options: Any) -> Sshd:
        return self.stack.enter_context(faults.sshd(self.site, self.folder, root, limits, **options))

    def gateway(self, server: Sshd | None = None, *, scheduler: float = 4, **timeouts: float) -> Server:
        """A gateway without probes, so that only requests open connections."""
        return self.run(self.settings(server, scheduler=scheduler, **timeouts))

    def settings(self, server: Sshd | None = None, *, scheduler: float = 4, **timeouts: float) -> dict[str, Any]:
        """The configuration of such a gateway."""
        settings = self.site.settings(self.issuer, self.folder / "service_secret", probing=False)
        cluster = settings["clusters"][0]
        cluster["scheduler"]["timeout"] = scheduler
        cluster["ssh"]["timeout"] = SHORT | timeouts
        if server is not None:
            known = {"known_hosts": str(server.known_hosts)}
            cluster["ssh"] |= {"host": server.host, "port": server.port, "host_keys": known}
        return settings

    def run(self, settings: dict[str, Any], port: int = 0, before: Sequence[str] = ()) -> Server:
        config = write_settings(settings, self.folder / "flamecrest.yaml")
        return self.stack.enter_context(gateway(config, self.folder / "gateway.log", port=port, before=before))

    def client(self, server: Server, user: str | None = None, **more: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.issuer.mint(user or self.site.user)}"}
        made = httpx.Client(base_url=server.url, headers=headers, timeout=40, trust_env=False, **more)
        return self.stack.enter_context(made)

    @property
    def ops(self) -> str:
        return f"/filesystem/{self.site.system}/ops"

    @property
    def jobs(self) -> str:
        return f"/compute/{self.site.system}/jobs"

    def stat(self, client: httpx.Client, user: str | None = None) -> httpx.Response:
        return client.get(f"{self.ops}/stat", params={"path": self.site.home(user or self.site.user)})


def is_error(answer: httpx.Response, *statuses: int) -> bool:
    """Whether it is an error of these kinds, in the envelope, without internal details."""
    body = answer.json()
    assert answer.status_code in statuses, answer.text
    assert {"errorType", "message", "causedBy", "data", "user"} <= set(body)
    assert "Something went wrong" not in body["message"]
    assert "PRIVATE KEY" not in answer.text
    return True
