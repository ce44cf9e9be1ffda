"""Small limits of sshd, a full disk, no descriptors: what is asked is done, or it is an error that says why."""

from __future__ import annotations

import resource
import secrets
import subprocess
from pathlib import Path

import httpx

from .conftest import Scene


def all_were_served(scene: Scene) -> None:
    assert all(one.served for one in scene.traffic.samples), {one.message for one in scene.traffic.samples}


def test_two_sessions_on_a_connection(scene: Scene) -> None:
    node = scene.world.sshd(MaxSessions="2")
    scene.serve(
        scene.settings(node, command_execution=30),
    )
    user, system = scene.users[0], scene.world.site.system
    for _ in range(5):
        for name in ("stat", "ls", "file"):
            scene.traffic.add(name, scene.asks(user, "GET", scene.operation(name), params=scene.home(user)), 1)
        for name in ("userinfo", "nodes"):
            scene.traffic.add(name, scene.asks(user, "GET", f"/status/{system}/{name}"), 1)
        scene.traffic.add("jobs", scene.asks(user, "GET", scene.world.jobs), 1)
    with scene.fault("max-sessions", node, from_start=True):
        pass
    all_were_served(scene)


def test_ten_users_log_in_at_once_where_two_may(scene: Scene) -> None:
    node = scene.world.sshd(MaxSessions="2", MaxStartups="2:50:4")
    scene.serve(scene.settings(node, command_execution=30))
    for user in [*scene.world.site.users[:10]] * 3:
        scene.traffic.add("stat", scene.asks(user, "GET", scene.operation("stat"), params=scene.home(user)), 1)
    with scene.fault("max-startups", node, from_start=True):
        pass
    all_were_served(scene)


def test_the_disk_is_full(scene: Scene) -> None:
    node, user = scene.world.sshd(), scene.users[0]
    folder = Path(scene.world.site.home(user)) / f"disk-{secrets.token_hex(4)}"
    folder.mkdir()
    scene.world.stack.callback(folder.rmdir)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], check=True)
    scene.world.stack.callback(lambda: subprocess.run(["umount", folder], check=True))
    scene.serve(scene.settings(node))
    scene.reads()
    scene.upload(folder / "files")
    filler = folder / "filler"
    with scene.fault("disk-full", node) as fault, fault.lasts():
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4096"], check=False, capture_output=True)
        fault.until_noticed("upload")
        fault.until_others_served("upload")
        filler.unlink()


def test_no_descriptor_is_free(scene: Scene) -> None:
    node = scene.world.sshd()
    server = scene.serve(scene.settings(node))
    scene.files()
    user = scene.users[1]
    headers = {"Authorization": f"Bearer {scene.world.issuer.mint(user)}"}

    def newly() -> httpx.Response:
        with httpx.Client(base_url=server.url, headers=headers, timeout=20, trust_env=False) as client:
            return client.get(scene.operation("stat"), params=scene.home(user))

    scene.traffic.add("stat on a new connection", newly)
    with scene.fault("descriptors", node) as fault:
        before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        with fault.lasts():
            used = max(int(one.name) for one in Path(f"/proc/{server.pid}/fd").iterdir()) + 1
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used, before[1]))
            node.cut()
            fault.until_served()
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
