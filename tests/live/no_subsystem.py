"""A second sshd of the centre, without the SFTP subsystem, for the duration of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from .process import free_port, running
from .site import Site

OWN = ("Port ", "PidFile ", "Subsystem ")  # settings that differ from the centre's configuration


@contextmanager
def without_subsystem(site: Site, folder: Path) -> Iterator[Site]:
    """The same site on another port; skips if the site is not the centre of tests/live/centre."""
    settings = site.known_hosts.parent / "sshd_config"
    if not settings.exists():
        pytest.skip("only the centre's sshd can be started once more")
    port = free_port()
    lines = [line for line in settings.read_text().splitlines() if not line.startswith(OWN)]
    config, known_hosts = folder / "sshd_config", folder / "known_hosts"
    config.write_text("\n".join([*lines, f"Port {port}", "PidFile none", ""]))
    known_hosts.write_text(site.known_hosts.read_text().replace(f"]:{site.port} ", f"]:{port} "))
    found = replace(site, port=port, known_hosts=known_hosts)
    argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)]
    with running(argv, folder / "sshd.log", lambda: found.why_not() is None):
        yield found
