"""Three replicas of the gateway behind a proxy of deploy/proxies, as real programs with ports of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import yaml

from flamecrest.sandbox.issuer import Issuer
from tests.live.process import PROGRAMS, ROOT, Forked, answers, free_port, running
from tests.live.site import Site, write_settings

EXAMPLES = ROOT / "deploy" / "proxies"
STORE = shutil.which("valkey-server") or "redis-server"
ENVOY = ROOT / ".venv-envoy" / "bin" / "envoy"
SECONDS = 90  # for a program to start: the machine may be busy


class Replicas:
    """Gateways that share a store of limits and a key for URLs. A killed one can be started again.

    `rate`: the requests that a user may make in a second.
    """

    def __init__(self, site: Site, issuer: Issuer, folder: Path, stack: ExitStack, *, rate: float = 500) -> None:
        store = free_port()
        options = ["--port", str(store), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        stack.enter_context(running([STORE, *options], folder / "store.log", lambda: listens(store), SECONDS))
        settings = site.settings(issuer, folder / "service_secret", probing=False) | {
            "limits": {
                "store": f"redis://127.0.0.1:{store}/0",
                "users": [{"requests_per_second": rate, "burst": round(2 * rate)}],
            },
            "transfers": {"signing_key": "k" * 40},
        }
        self._config = write_settings(settings, folder / "flamecrest.yaml")
        self._folder = folder
        self._stack = stack
        self.ports = [free_port() for _ in range(3)]
        self.pids = [self.start(number) for number in range(3)]

    def start(self, number: int) -> int:
        """Start a replica and wait until it answers; returns its pid."""
        port = str(self.ports[number])
        argv = [str(PROGRAMS / "flamecrest"), "serve", "--config", str(self._config), "--port", port]
        url = f"http://127.0.0.1:{port}/health/ready"
        started = running(argv, self.log(number), lambda: answers(url), SECONDS, start=Forked)
        return self._stack.enter_context(started)

    def kill(self, number: int) -> None:
        """End a replica at once, whatever it does."""
        os.kill(self.pids[number], signal.SIGKILL)

    def restart(self, number: int) -> None:
        """Start a replica again that was killed."""
        self.pids[number] = self.start(number)

    def log(self, number: int) -> Path:
        return self._folder / f"replica-{number}.log"

    def of_users(self) -> dict[str, set[int]]:
        """Which replicas have answered requests of each user, as their logs say."""
        found: dict[str, set[int]] = {}
        for number in range(len(self.ports)):
            for line in self.log(number).read_bytes().splitlines():
                with suppress(orjson.JSONDecodeError):
                    user = orjson.loads(line).get("user")
                    if user:
                        found.setdefault(user, set()).add(number)
        return found


def listens(port: int) -> bool:
    """Whether something accepts connections on this port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def with_ports(text: str, listener: int, ports: list[int]) -> str:
    """An example with these ports instead of its own."""
    for old, new in zip((8080, 8001, 8002, 8003), (listener, *ports), strict=True):
        assert f"127.0.0.1:{old}" in text
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    return text


def haproxy(folder: Path, listener: int, ports: list[int], issuer: Issuer) -> list[str]:
    """The command line of HAProxy with its example."""
    file = folder / "haproxy.cfg"
    file.write_text(with_ports((EXAMPLES / "haproxy.cfg").read_text(), listener, ports))
    return ["haproxy", "-db", "-f", str(file)]


def nginx(folder: Path, listener: int, ports: list[int], issuer: Issuer) -> list[str]:
    """The command line of nginx with its example."""
    file = folder / "nginx.conf"
    text = with_ports((EXAMPLES / "nginx.conf").read_text(), listener, ports)
    file.write_text(text.replace("/etc/nginx/flamecrest", str(EXAMPLES)))
    return ["nginx", "-c", str(file), "-g", f"daemon off; error_log stderr; pid {folder}/nginx.pid;"]


def envoy(folder: Path, listener: int, ports: list[int], issuer: Issuer) -> list[str]:
    """The command line of Envoy with its example, which gets the keys of this issuer, without TLS."""
    config: Any = yaml.safe_load((EXAMPLES / "envoy.yaml").read_text())["static_resources"]
    (listening,), (replicas, keys) = config["listeners"], config["clusters"]
    listening["address"]["socket_address"]["port_value"] = listener
    endpoints = replicas["load_assignment"]["endpoints"][0]["lb_endpoints"]
    for one, port in zip(endpoints, ports, strict=True):
        one["endpoint"]["address"]["socket_address"]["port_value"] = port
    del keys["transport_socket"]
    (at,) = keys["load_assignment"]["endpoints"][0]["lb_endpoints"]
    host, _, at_port = issuer.url.removeprefix("http://").rstrip("/").partition(":")
    at["endpoint"]["address"]["socket_address"] = {"address": host, "port_value": int(at_port)}
    (chain,) = listening["filter_chains"]
    _, tokens, _ = chain["filters"][0]["typed_config"]["http_filters"]
    provider = tokens["typed_config"]["providers"]["centre"]
    provider["issuer"] = issuer.url
    provider["remote_jwks"]["http_uri"]["uri"] = issuer.jwks_url
    file = folder / "envoy.yaml"
    file.write_text(yaml.safe_dump({"static_resources": config}))
    return [str(ENVOY), "-c", str(file), "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"]


@contextmanager
def behind(command: Callable[..., list[str]], replicas: Replicas, folder: Path, issuer: Issuer) -> Iterator[str]:
    """Run a proxy in front of the replicas; yields its URL."""
    port = free_port()
    argv = command(folder, port, replicas.ports, issuer)
    url = f"http://127.0.0.1:{port}"
    with running(argv, folder / "proxy.log", lambda: answers(f"{url}/health/ready"), SECONDS):
        yield url
