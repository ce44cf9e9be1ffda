"""`flamecrest ca`: new keys, and the lines for the SSH servers of the login nodes."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import asyncssh
import pytest
from typer.testing import CliRunner

from flamecrest.cli.main import app

runner = CliRunner()

CONFIG = """\
auth:
  authentication: {issuer: https://id.example.org, audience: flamecrest}
ssh_credentials:
  type: SSHCertificates
  signing_keys:
    - {type: file, private_key: "secret_file:FOLDER/new"}
    - {type: agent, socket: /run/agent.sock, public_key: OLD}
  source_address: [192.0.2.7, 198.51.100.0/24]
clusters:
  - name: daint
    ssh: {host: login.example.org}
    scheduler: {type: slurm, version: 24.05.4}
  - name: eiger
    ssh: {host: login.example.org}
    scheduler: {type: slurm, version: 24.05.4}
    ssh_credentials:
      type: SSHCertificates
      principals: "{user}@{cluster}"
      signing_keys: [{type: file, private_key: "secret_file:FOLDER/new"}]
"""


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_new_key_is_for_its_owner_only(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ca"
    done = runner.invoke(app, ["ca", "key", "--type", kind, str(path)])
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = asyncssh.read_private_key(path)
    public = path.with_name("ca.pub").read_text()
    assert public in done.output
    assert public.split()[1] == key.export_public_key().decode().split()[1]
    again = runner.invoke(app, ["ca", "key", str(path)])
    assert (again.exit_code, "exists, and no file is replaced: give another name" in again.output) == (1, True)
    path.unlink()
    assert runner.invoke(app, ["ca", "key", str(path)]).exit_code == 1  # the public key is somebody's
    assert not path.exists()


def test_a_new_key_may_have_a_passphrase(tmp_path: Path) -> None:
    path, secret = tmp_path / "ca", tmp_path / "passphrase"
    secret.write_text("\n")
    argv = ["ca", "key", "--passphrase-file", str(secret), str(path)]
    assert runner.invoke(app, argv).exit_code == 1
    secret.write_text("open sesame\n")
    assert runner.invoke(app, argv).exit_code == 0
    with pytest.raises(asyncssh.KeyImportError):
        asyncssh.read_private_key(path)
    assert asyncssh.read_private_key(path, "open sesame")


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    done = runner.invoke(app, ["ca", "key", str(tmp_path / "none" / "ca")])
    assert (done.exit_code, "No such file" in done.output) == (1, True)


def test_the_lines_for_the_login_nodes(tmp_path: Path) -> None:
    new, old = tmp_path / "new", asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    assert runner.invoke(app, ["ca", "key", str(new)]).exit_code == 0
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("FOLDER", str(tmp_path)).replace("OLD", " ".join(old.split()[:2])))
    done = runner.invoke(app, ["ca", "sshd", str(config)])
    assert done.exit_code == 0, done.output
    daint, eiger = done.stdout.split("# --- login nodes of ")[1:]
    public = new.with_name("new.pub").read_text().split()[1]
    assert public in daint
    assert old.split()[1] in daint
    assert "Match Address 192.0.2.7/32,198.51.100.0/24\n    TrustedUserCAKeys /etc/ssh/flamecrest_ca.pub\n" in daint
    assert "AuthorizedPrincipalsFile" not in daint
    assert (public in eiger, old.split()[1] in eiger) == (True, False)
    assert re.search(r"AuthorizedPrincipalsFile \S+/%u\n", eiger)


def test_without_an_authority_there_are_no_lines(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    text = re.sub(r"(?s)ssh_credentials:.*clusters:", "ssh_credentials: {keys: {}}\nclusters:", CONFIG)
    config.write_text(text.partition("  - name: eiger")[0])
    done = runner.invoke(app, ["ca", "sshd", str(config)])
    assert (done.exit_code, "SSHCertificates" in done.output) == (1, True)


def test_a_key_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("no key")
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("FOLDER", str(tmp_path)).replace("OLD", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AA=="))
    done = runner.invoke(app, ["ca", "sshd", str(config)])
    assert (done.exit_code, "config.yaml:6: ssh_credentials.signing_keys[0]" in done.output) == (2, True), done.output
