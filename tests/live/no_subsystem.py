"""A second sshd of the centre, configured otherwise, for the duration of a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from .process import free_port, running
from .site import Site


@contextmanager
def without_subsystem(site: Site, folder: Path) -> Iterator[Site]:
    """The same site on another port, without SFTP; skips if the site is not the centre of tests/live/centre."""
    with _configured(site, folder, "Subsystem ") as found:
        yield found


@contextmanager
def with_variables(site: Site, folder: Path, variables: Mapping[str, str]) -> Iterator[Site]:
    """The same site on another port, with variables as start-up files may set them; skips as above."""
    words = " ".join(f'"{name}={value}"' for name, value in variables.items())
    with _configured(site, folder, "SetEnv ", f"SetEnv {words}") as found:
        yield found


@contextmanager
def _configured(site: Site, folder: Path, left_out: str, *more: str) -> Iterator[Site]:
    settings = site.known_hosts.parent / "sshd_config"
    if not settings.exists():
        pytest.skip("only the centre's sshd can be started once more")
    port = free_port()
    lines = [line for line in settings.read_text().splitlines() if not line.startswith(("Port ", "PidFile ", left_out))]
    config, known_hosts = folder / "sshd_config", folder / "known_hosts"
    config.write_text("\n".join([*lines, *more, f"Port {port}", "PidFile none", ""]))
    known_hosts.write_text(site.known_hosts.read_text().replace(f"]:{site.port} ", f"]:{port} "))
    found = replace(site, port=port, known_hosts=known_hosts)
    argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)]
    with running(argv, folder / "sshd.log", lambda: found.why_not() is None):
        yield found
