"""The login node crashes, hangs, refuses connections, closes them, and has small limits."""

from __future__ import annotations

from functools import partial

from tests.live import faults
from tests.live.faults import until

from .conftest import Scene
from .tcp_proxy import TcpProxy, tcp_proxy


def has_closed(proxy: TcpProxy, before: int) -> bool:
    return proxy.closed > before


def test_it_crashes(scene: Scene) -> None:
    node = scene.world.sshd()
    scene.serve(scene.settings(node))
    scene.files()
    with scene.fault("sshd-killed", node) as fault, fault.lasts():
        node.stop()
        fault.until_noticed("stat")
        fault.until_noticed("upload")
        node.start()


def test_it_hangs(scene: Scene) -> None:
    node = scene.world.sshd()
    scene.serve(scene.settings(node, command_execution=3))
    scene.files()
    with scene.fault("sshd-frozen", node) as fault:
        hung = node.processes()
        with fault.lasts(), faults.stopped(*hung):
            fault.until_noticed("stat")
            fault.until_noticed("upload")


def test_one_of_two_hangs(scene: Scene) -> None:
    """Nobody's reads fail: users move to the other node."""
    first, second = scene.world.sshd(), scene.world.sshd(host="127.0.0.2")
    second.known_hosts.write_text(first.known_hosts.read_text() + second.known_hosts.read_text())
    hosts = [{"host": one.host, "port": one.port} for one in (first, second)]
    scene.serve(scene.settings(second, ssh={"host": None, "hosts": hosts}))
    scene.reads()
    with scene.fault("node-frozen", first, second) as fault:
        hung = max(first.processes(), second.processes(), key=len)
        with fault.lasts(), faults.stopped(*hung):
            fault.until_served()
    assert all(one.served for one in scene.traffic.samples), [one for one in scene.traffic.samples if not one.served]


def test_it_refuses_connections(scene: Scene) -> None:
    node = scene.world.sshd()
    with tcp_proxy(node.port) as proxy:
        node.known_as("127.0.0.1", proxy.port)
        scene.serve(scene.settings(node, ssh={"port": proxy.port}))
        scene.files()
        with scene.fault("sshd-refuses", node) as fault, fault.lasts():
            proxy.refuse()
            fault.until_noticed("stat")
            fault.until_noticed("upload")
            proxy.listen()


def test_it_closes_after_some_bytes(scene: Scene) -> None:
    node = scene.world.sshd()
    with tcp_proxy(node.port) as proxy:
        node.known_as("127.0.0.1", proxy.port)
        scene.serve(scene.settings(node, ssh={"port": proxy.port}))
        scene.files()
        with scene.fault("sshd-closes", node) as fault, fault.lasts():
            for limit in (10, 1000, 3000, 100_000):
                closed = proxy.closed
                proxy.limit(limit)
                until(partial(has_closed, proxy, closed), "a connection was closed by the limit")
            proxy.limit(None)
