"""The faults that tests make, in the order of the page: a key, what happens, and by which means."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """One row of the page."""

    key: str
    title: str
    means: str


FAULTS = (
    Kind("sshd-killed", "The login node crashes", "SIGKILL to sshd and its sessions; started again"),
    Kind("sshd-frozen", "The login node hangs", "SIGSTOP to sshd and its sessions"),
    Kind("node-frozen", "One of two login nodes hangs", "SIGSTOP to one sshd and its sessions"),
    Kind("sshd-refuses", "The login node refuses", "a TCP proxy before sshd resets all, and listens no more"),
    Kind("sshd-closes", "Connections close after some bytes", "the proxy closes after 10, 1,000, 3,000, 100,000 bytes"),
    Kind("cut-download", "Cut off in the middle of a download", "all packets are lost between network namespaces"),
    Kind("cut-upload", "Cut off in the middle of an upload", "all packets are lost between network namespaces"),
    Kind("slow-network", "50 ms of latency and 1 % loss", "packets are delayed and lost between network namespaces"),
    Kind("no-names", "The name service is down", "the DNS server of the gateway's mount namespace is stopped"),
    Kind("max-sessions", "`MaxSessions 2`, 30 requests at once", "sshd_config"),
    Kind("max-startups", "`MaxStartups 2:50:4`, 10 users at once", "sshd_config"),
    Kind("slurmctld", "slurmctld is stopped", "SIGTERM; started again"),
    Kind("slurmdbd", "slurmdbd is stopped", "SIGTERM; started again"),
    Kind("munged", "munge is stopped", "SIGTERM to munged; started again"),
    Kind("disk-full", "The disk is full", "a tmpfs of 4 MiB is filled"),
    Kind("issuer", "The token issuer is down", "its HTTP server is stopped"),
    Kind("openfga", "OpenFGA is down", "a TCP proxy before it resets all and listens no more"),
    Kind("bad-tokens", "A flood of bad tokens", "4 clients, unknown keys, wrong signatures, no tokens"),
    Kind("clock", "The clocks of gateway and issuer differ", "the issuer's jumps 10 minutes back, then ahead"),
    Kind("own-clock", "The gateway's clock jumps", "libfaketime: 10 minutes ahead, 2 hours ahead, 10 minutes back"),
    Kind("descriptors", "File descriptors are used up", "`prlimit --nofile` as low as what is open"),
    Kind("worker-killed", "One of two workers is killed", "SIGKILL to the process of a worker"),
    Kind("worker-frozen", "One of two workers hangs", "SIGSTOP to its process, `server.worker_timeout: 4`"),
    Kind("sigterm", "SIGTERM under load, then a new process", "SIGTERM; the same port"),
)  # fmt: skip
