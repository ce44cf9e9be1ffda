"""Fixtures: configuration files and functions that load them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from flamecrest.server.settings import Problem, Settings, SettingsError, load

MINIMAL = """\
auth:
  authentication:
    issuer: https://id.example.org/realms/hpc
    audience: flamecrest
ssh_credentials:
  type: SSHStaticKeys
  keys:
    alice:
      private_key: "{key}"
clusters:
  - name: daint
    ssh:
      host: login.example.org
    scheduler:
      type: slurm
      version: 24.05.4
    file_systems:
      - path: /home
        data_type: users
"""

Read = Callable[..., Settings]


@pytest.fixture
def secret_file(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a secret to a file, and return the reference to it."""

    def write(name: str, secret: str) -> str:
        path = tmp_path / name
        path.touch(mode=0o600)
        path.write_text(f"{secret}\n", "utf-8")
        return f"secret_file:{path}"

    return write


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write a configuration to a file and load it."""

    def read(text: str, environ: Mapping[str, str] | None = None) -> Settings:
        path = tmp_path / "config.yaml"
        path.write_text(text, "utf-8")
        return load(path, environ or {})

    return read


@pytest.fixture
def problems(read: Read) -> Callable[..., list[Problem]]:
    """The problems of a configuration that is invalid."""

    def problems(text: str, environ: Mapping[str, str] | None = None) -> list[Problem]:
        with pytest.raises(SettingsError) as error:
            read(text, environ)
        return list(error.value.problems)

    return problems


@pytest.fixture
def minimal(secret_file: Callable[[str, str], str]) -> str:
    """The smallest configuration that causes no warning."""
    return MINIMAL.format(key=secret_file("alice", "a private key"))
