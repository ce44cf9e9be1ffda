"""Host keys and credentials: accepted, refused, and the error texts."""

from __future__ import annotations

import logging

import asyncssh
import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Upstream
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.credentials.static import StaticCredentials, StaticKey
from flamecrest.server.ssh.host_keys import HostKeyVerifier, known_hosts_line
from flamecrest.server.ssh.pool.policy import PoolLimits
from flamecrest.server.ssh.pool.pool import Pool
from flamecrest.server.ssh.session import PooledSessions

pytestmark = pytest.mark.anyio

ANN = Identity("ann")


async def log_in(pool) -> str:
    return await PooledSessions(pool).of(ANN).run(Command(("echo", "in"), lambda o: o.text()), Deadline.after(30))


async def test_an_unknown_key_is_refused_with_its_known_hosts_line(world):
    empty = world.root / "empty"
    empty.touch()
    trust = HostKeyVerifier([str(empty)])
    async with world.pool(host_keys=trust) as pool:
        with pytest.raises(Upstream, match="is unknown") as caught:
            await log_in(pool)
        told = caught.value.public.rpartition("known_hosts is: ")[2]
        empty.write_text(told + "\n")  # as an operator would do, without a restart
        assert await log_in(pool) == "in\n"


async def test_a_host_with_several_keys_is_asked_for_the_short_one_unless_it_is_known_by_another(world):
    keys = [asyncssh.generate_private_key(kind) for kind in ("ssh-rsa", "ecdsa-sha2-nistp256", "ssh-ed25519")]
    empty = world.root / "empty"
    empty.touch()
    async with asyncssh.listen("127.0.0.1", 0, server_host_keys=keys) as server:
        host = world.host(port=server.get_port())
        async with world.pool(host, host_keys=HostKeyVerifier([str(empty)])) as pool:
            with pytest.raises(Upstream, match=r"is unknown.* ssh-ed25519 AAAA"):
                await log_in(pool)
            empty.write_text(known_hosts_line("127.0.0.1", server.get_port(), keys[0]) + "\n")
            with pytest.raises(Upstream, match="did not accept the SSH credentials"):  # the key of the host is accepted
                await log_in(pool)


async def test_a_changed_key_is_refused_as_changed(world):
    other = asyncssh.generate_private_key("ssh-ed25519")
    path = world.root / "known"
    path.write_text(known_hosts_line("127.0.0.1", world.server.port, other) + "\n")
    for policy in ("verify", "accept-new"):
        async with world.pool(host_keys=HostKeyVerifier([str(path)], policy=policy)) as pool:
            with pytest.raises(Upstream, match="has changed") as refused:
                await log_in(pool)
            assert "has changed" in (refused.value.detail or "")  # which is what the log has


async def test_pinned_keys_and_malformed_lines(world):
    pinned = world.host_key.export_public_key("openssh").decode()
    async with world.pool(host_keys=HostKeyVerifier(pinned=[pinned])) as pool:
        assert await log_in(pool) == "in\n"
    path = world.root / "mixed"
    path.write_text(
        "garbage\n|1|bad|hash ssh-rsa AAAA\n" + known_hosts_line("127.0.0.1", world.server.port, world.host_key) + "\n"
    )
    async with world.pool(host_keys=HostKeyVerifier([str(path)])) as pool:
        assert await log_in(pool) == "in\n"


async def test_accept_new_accepts_the_first_key(world):
    trust = HostKeyVerifier(["/nonexistent"], policy="accept-new")
    async with world.pool(host_keys=trust) as pool:
        assert await log_in(pool) == "in\n"
    port = world.server.port
    await world.server.stop()
    world.server.host_key = asyncssh.generate_private_key("ssh-ed25519")
    await world.server.start(port)
    async with world.pool(host_keys=trust) as pool:
        with pytest.raises(Upstream, match="has changed"):
            await log_in(pool)


async def test_off_accepts_every_key(world):
    async with world.pool(host_keys=HostKeyVerifier(["/nonexistent"], policy="off")) as pool:
        assert await log_in(pool) == "in\n"


async def test_keys_with_passphrase_and_broken_keys(world, caplog):
    caplog.set_level(logging.DEBUG)
    good = world.keys["ann"].export_private_key(passphrase="open sesame", rounds=1, ignore_few_rounds=True).decode()
    cases = {
        "right": StaticKey(good, passphrase="open sesame"),
        "wrong passphrase": StaticKey(good, passphrase="closed"),
        "no passphrase": StaticKey(good),
        "no key": StaticKey("this is no key"),
    }
    for name, key in cases.items():
        async with Pool([world.host()], StaticCredentials({"ann": key}), world.known_hosts(), PoolLimits()) as pool:
            if name == "right":
                assert await log_in(pool) == "in\n"
            else:
                with pytest.raises(Upstream, match="can't be read") as caught:
                    await log_in(pool)
                assert "sesame" not in f"{caught.value!r} {caught.value.detail} {key!r}"
    assert "sesame" not in caplog.text
    assert good[100:140] not in caplog.text


async def test_user_certificates_log_in(world):
    authority = asyncssh.generate_private_key("ssh-ed25519")
    world.server.authorities.add(authority.public_data)
    key = asyncssh.generate_private_key("ssh-ed25519")
    for principal, welcome in (("ann", True), ("bob", False)):
        certificate = authority.generate_user_certificate(key, "test", principals=[principal])
        static = StaticKey(key.export_private_key().decode(), certificate=certificate.export_certificate().decode())
        async with Pool([world.host()], StaticCredentials({"ann": static}), world.known_hosts(), PoolLimits()) as pool:
            if welcome:
                assert await log_in(pool) == "in\n"
            else:
                with pytest.raises(Upstream, match="did not accept"):
                    await log_in(pool)
