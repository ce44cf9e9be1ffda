"""The network between the gateway and the login node is cut or bad; the name service is down."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx

from tests.live import faults
from tests.live.faults import until

from .conftest import Scene
from .name_server import name_server
from .network import RemoteHost, remote_host


def far(scene: Scene, host: RemoteHost, **timeouts: Any) -> faults.Sshd:
    node = scene.world.sshd(host=host.address, enter=host.enter)
    scene.serve(scene.settings(node, **timeouts))
    scene.reads()
    return node


def test_it_is_cut_in_the_middle_of_a_download(scene: Scene) -> None:
    """The client's download breaks off: it never looks complete."""
    user, some = scene.users[0], threading.Event()
    with remote_host() as host, faults.big_file(scene.world.site, user) as path:
        node = far(scene, host)
        assert scene.server is not None
        client = scene.world.client(scene.server, user)

        def download() -> httpx.Response:
            with client.stream("GET", scene.operation("download"), params={"path": path}) as answer:
                assert answer.status_code == 200
                for _ in answer.iter_raw():
                    some.set()
            raise AssertionError("a file of 200 GB ended")

        with scene.fault("cut-download", node) as fault:
            thread = threading.Thread(target=scene.traffic.ask, args=("download", download))
            thread.start()
            until(some.is_set, "the download has begun")
            with fault.lasts():
                host.link.cut = True
                fault.until_noticed("stat")
                thread.join(120)
                assert not thread.is_alive(), "the download has an end"
                host.link.cut = False


def test_it_is_cut_in_the_middle_of_an_upload(scene: Scene) -> None:
    """The older file stays, and nothing of the new one."""
    user, some, over = scene.users[0], threading.Event(), threading.Event()
    with remote_host() as host:
        node = far(scene, host)
        assert scene.server is not None
        scene.upload()
        assert scene.uploads is not None
        client, target = scene.world.client(scene.server, user), scene.uploads.folder.parent / "cut-upload"
        target.write_text("older")
        faults.give(target, user)
        scene.world.stack.callback(target.unlink)

        def body() -> Iterator[bytes]:
            for number in range(10**6):
                if number > 20:
                    some.set()
                    over.wait(0.01)
                if over.is_set():
                    return
                yield b"x" * 65536

        def upload() -> httpx.Response:
            return client.put(scene.operation("upload"), params={"path": str(target)}, content=body())

        with scene.fault("cut-upload", node) as fault:
            thread = threading.Thread(target=scene.traffic.ask, args=("long upload", upload))
            thread.start()
            until(some.is_set, "the upload has begun")
            with fault.lasts():
                host.link.cut = True
                fault.until_noticed("long upload")
                over.set()
                thread.join(120)
                host.link.cut = False
        assert target.read_text() == "older"
        assert not list(target.parent.glob(".*cut-upload*")), "no temporary file is left"


def test_it_is_slow_and_loses_packets(scene: Scene) -> None:
    with remote_host() as host:
        node = far(scene, host, connection=10, login=10, command_execution=30)
        scene.upload()
        host.link.delay, host.link.loss = 0.025, 0.01
        with scene.fault("slow-network", node, from_start=True):
            until(lambda: host.link.lost >= 10, "packets are lost")
    assert all(one.served for one in scene.traffic.samples), [one for one in scene.traffic.samples if not one.served]


def test_names_are_not_resolved(scene: Scene) -> None:
    """Connections that are open go on; new ones are errors until the name service is back."""
    node = scene.world.sshd()
    with name_server("login.centre.test", scene.world.folder) as names:
        node.known_as(names.name, node.port)
        scene.serve(scene.settings(node, ssh={"host": names.name}), before=names.enter)
        scene.files()
        with scene.fault("no-names", node) as fault, fault.lasts():
            names.answers = False
            fault.until_served()
            node.cut()
            fault.until_noticed("stat")
            names.answers = True
