"""The centre itself: if one of these fails, the fault is in the centre, not in the gateway."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .site import Site

CENTRE = Path(__file__).parent / "centre"

pytestmark = pytest.mark.skipif(
    any(name.startswith("FLAMECREST_LIVE_") for name in os.environ), reason="another site than tests/live/centre"
)


def run(*argv: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in argv], check=False, capture_output=True, text=True, timeout=30)


def test_all_services_run() -> None:
    result = run(CENTRE / "status.sh")
    assert result.returncode == 0, result.stdout + result.stderr


def ssh(site: Site, user: str, key: Path) -> subprocess.CompletedProcess[str]:
    options = ["BatchMode=yes", "IdentitiesOnly=yes", f"UserKnownHostsFile={site.known_hosts}", "LogLevel=ERROR"]
    flags = [word for option in options for word in ("-o", option)]
    return run("ssh", "-F", "none", *flags, "-i", key, "-p", site.port, f"{user}@{site.host}", "id", "-un")


def test_users_log_in_only_with_their_own_keys(site: Site) -> None:
    first, second = site.users[0], site.users[-1]
    assert ssh(site, second, site.key(second)).stdout == f"{second}\n"
    refused = ssh(site, second, site.key(first))
    assert "Permission denied" in refused.stderr


def test_certificate_is_valid_only_for_its_user(site: Site, tmp_path: Path) -> None:
    key = tmp_path / "key"
    assert run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).returncode == 0
    assert ssh(site, site.user, key).returncode != 0
    assert run(CENTRE / "sign.sh", site.user, f"{key}.pub", "+1m").returncode == 0
    assert ssh(site, site.user, key).stdout == f"{site.user}\n"
    assert ssh(site, site.service_user, key).returncode != 0
