"""The complete centre: its parts respond, its configuration is valid, and nothing of it is left."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asyncssh
import httpx
import jwt
import pytest
import yaml

from flamecrest.sandbox import processes
from flamecrest.sandbox.centre import Centre
from flamecrest.server.settings import load, warnings

from .conftest import alive, eventually

pytestmark = pytest.mark.anyio


async def test_parts_respond() -> None:
    async with Centre() as centre:
        root = centre.root
        async with asyncssh.connect(
            "127.0.0.1",
            centre.ssh.port,
            username="user01",
            client_keys=[str(centre.key_file("user01"))],
            known_hosts=str(centre.known_hosts),
            config=None,
        ) as connection:
            done = await connection.run("sbatch --parsable --wrap 'echo hello > out'; sinfo -h -s | wc -l; id -un; pwd")
            assert str(done.stdout).split() == ["1", "2", "user01", str(centre.home("user01"))]
            assert done.stderr == ""
        async with httpx.AsyncClient(verify=False) as http:
            answer = await http.post(
                centre.issuer.token_url,
                data={"grant_type": "client_credentials"},
                auth=("user01", centre.client_secret("user01")),
            )
        for token in (answer.json()["access_token"], centre.token("user01")):
            claims = jwt.decode(token, options={"verify_signature": False})
            assert (claims["preferred_username"], claims["iss"]) == ("user01", centre.issuer.url)
    assert not root.exists()


async def test_certificate_is_accepted() -> None:
    async with Centre() as centre:
        key = asyncssh.generate_private_key("ssh-ed25519")
        for principals, good in ((None, True), (["user02"], False)):
            pairs = asyncssh.load_keypairs([(key, centre.certificate("user01", key, principals=principals))])
            login = asyncssh.connect(
                "127.0.0.1", centre.ssh.port, username="user01", client_keys=pairs[:1], known_hosts=None, config=None
            )
            if good:
                async with login as connection:
                    assert (await connection.run("whoami")).stdout == "user01\n"
            else:
                with pytest.raises(asyncssh.PermissionDenied):
                    await login


async def test_configuration_is_valid_for_a_gateway(tmp_path: Path) -> None:
    services = {name: {"timeout": 2} for name in ("ssh", "scheduler", "filesystem")}
    async with Centre(tmp_path / "centre", users=("fireuser", "firesrv")) as centre:
        settings = load(centre.write_config(tmp_path / "config.yaml", probing={"services": services}), {})
        (cluster,) = settings.clusters
        assert (cluster.name, cluster.ssh.port) == (centre.system, centre.ssh.port)
        assert warnings(settings) == []
        text = (tmp_path / "config.yaml").read_text()
    assert yaml.safe_load(text) == centre.config(probing={"services": services})
    secrets = [path.read_text() for path in (tmp_path / "centre" / "keys").rglob("*") if path.is_file()]
    assert not [secret for secret in secrets if secret.strip() in text]


async def test_secret_files_are_private(tmp_path: Path) -> None:
    async with Centre(tmp_path / "centre") as centre:
        keys = centre.root / "keys"
        assert keys.stat().st_mode & 0o777 == 0o700
        for path in keys.rglob("*"):
            if path.is_file() and path != centre.known_hosts:
                assert path.stat().st_mode & 0o777 == 0o600, path
        assert centre.client_secret("fireuser") not in repr(centre.config())


async def test_existing_root_is_used_and_leftover_processes_are_ended(tmp_path: Path) -> None:
    root = tmp_path / "centre"
    async with Centre(root, settings={"start_delay": 0}) as centre:
        environment = {"PATH": f"{centre.slurm.bin_dir}:/usr/bin:/bin", "USER": "fireuser", "HOME": str(root)}
        key, authority = centre.key_file("fireuser").read_text(), centre.authority.public_data
        home = centre.home("fireuser")
        (home / "kept").touch()
    # without the mark in its environment, like a process of another program after the crash
    subprocess.run(["sbatch", "--wrap", "sleep 1000"], env=environment, cwd=home, check=True, capture_output=True)
    ((runner, _),) = eventually(lambda: [one for one in centre.slurm.sessions() if one[0]])
    stray = subprocess.Popen(["sleep", "1000"], env={processes.MARK: str(root)})
    innocent = subprocess.Popen(["sleep", "1000"], env={processes.MARK: f"{root}2"})
    assert alive(runner)
    try:
        async with Centre(root) as again:
            assert not alive(runner)
            assert stray.wait() == -9
            assert innocent.poll() is None
            assert again.key_file("fireuser").read_text() == key
            assert again.authority.public_data == authority
            assert (again.home("fireuser") / "kept").exists()
            assert [job.id for job in again.slurm.jobs()] == [1]
    finally:
        innocent.kill()
        innocent.wait()
    assert root.exists()


async def test_failed_start_leaves_nothing() -> None:
    centre = Centre()
    (centre.root / "keys").mkdir()
    (centre.root / "keys" / "host").write_text("no key")
    with pytest.raises(asyncssh.KeyImportError):
        await centre.__aenter__()
    assert not centre.root.exists()
