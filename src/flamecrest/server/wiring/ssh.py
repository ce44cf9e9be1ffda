"""Makes the SSH connection pool of a cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flamecrest.server.ssh.host_keys import HostKeyVerifier
from flamecrest.server.ssh.pool.host import Host
from flamecrest.server.ssh.pool.policy import PoolLimits
from flamecrest.server.ssh.pool.pool import Pool
from flamecrest.server.ssh.queue.room import QueueLimits

if TYPE_CHECKING:
    from flamecrest.server.settings import SshSettings
    from flamecrest.server.ssh.credentials.port import Credentials


def make_pool(ssh: SshSettings, credentials: Credentials) -> Pool:
    """The pool; the caller enters and leaves it."""
    trust = ssh.host_keys
    return Pool(
        login_nodes(ssh),
        credentials,
        HostKeyVerifier(
            [str(path) for path in trust.known_hosts] or None,
            pinned=trust.pinned,
            authorities=trust.certificate_authority,
            policy=trust.policy,
        ),
        PoolLimits(
            max_clients=ssh.max_clients,
            per_user=ssh.max_connections_per_user,
            idle=ssh.timeout.idle_timeout,
            age=ssh.max_age,
            age_in_use=ssh.max_age_in_use,
            max_sessions=ssh.max_sessions,
            max_failed_logins=ssh.max_failed_logins,
            turn=ssh.max_turn,
            queue=QueueLimits(ssh.max_waiting, ssh.max_waiting_per_user, ssh.refuse_late),
        ),
    )


def login_nodes(ssh: SshSettings) -> list[Host]:
    """The login nodes; names are not resolved yet."""
    host = Host(
        host=ssh.host,
        port=ssh.port,
        proxy_host=ssh.proxy_host,
        proxy_port=ssh.proxy_port or 22,
        proxy_user=ssh.proxy_user,
        connect_timeout=ssh.timeout.connection,
        login_timeout=ssh.timeout.login,
        keep_alive=ssh.timeout.keep_alive,
        accelerate=ssh.accelerate == "auto",
    )
    return [
        replace(
            host,
            host=node.host,
            port=node.port or ssh.port,
            weight=node.weight,
            zone=node.zone,
            near=None in {node.zone, ssh.zone} or node.zone == ssh.zone,
            pinned=node.pinned,
        )
        for node in ssh.hosts
    ] or [host]
