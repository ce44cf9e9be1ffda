"""`check --connect` with real servers: an SSH server, a token issuer, an HTTP server as object store."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest
import yaml
from typer.testing import CliRunner

from flamecrest.cli.check import show
from flamecrest.cli.checks.running import CheckResult, run_check
from flamecrest.cli.connect import check_connections, for_checks, url_checks
from flamecrest.cli.main import app
from flamecrest.sandbox.issuer import SigningKey
from flamecrest.sandbox.ssh.server import SshServer
from flamecrest.sandbox.users import UnixUsers
from flamecrest.server.settings import Settings
from flamecrest.server.ssh.host_keys import KNOWN_HOSTS_LINE, known_hosts_line
from flamecrest.server.wiring.gateway import open_gateway
from tests.faulty_issuer import Fault, FaultyIssuer

pytestmark = pytest.mark.anyio


@dataclass
class Centre:
    """A login node, an issuer, and a configuration for both."""

    ssh: SshServer
    issuer: FaultyIssuer
    root: Path
    config: dict[str, Any]

    async def findings(self, user: str = "ann", seconds: float = 5) -> dict[str, CheckResult]:
        settings = for_checks(Settings.model_validate(self.config))
        async with open_gateway(settings) as gateway:
            found = await check_connections(gateway, settings, user, seconds)
        return {finding.subject: finding for finding in found}

    @property
    def cluster(self) -> dict[str, Any]:
        cluster: dict[str, Any] = self.config["clusters"][0]
        return cluster

    def scontrol(self, says: str) -> None:
        """Make the cluster's `scontrol` print this (recorded from Slurm 22.05)."""
        program = self.root / "bin" / "scontrol"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho '{says}'\n")
        program.chmod(0o755)


@pytest.fixture
async def centre(tmp_path: Path) -> AsyncIterator[Centre]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    users = UnixUsers(tmp_path, ["ann", "bob"])
    users.make_homes()
    server = SshServer(users, asyncssh.generate_private_key("ssh-ed25519"), keys={"ann": [key]})
    await server.start()
    issuer = FaultyIssuer({}, audience="flamecrest")
    async with issuer:
        host_key = " ".join(known_hosts_line("127.0.0.1", 22, server.host_key).split()[1:])
        secret = key.export_private_key().decode()
        cluster = {
            "name": "one",
            "ssh": {"host": "127.0.0.1", "port": server.port, "host_keys": {"pinned": host_key}},
            "scheduler": {"type": "slurm", "version": "22.05", "bin_dir": str(tmp_path / "bin")},
            "file_systems": [{"path": str(users["ann"].home), "data_type": "users"}],
        }
        config = {
            "auth": {"authentication": {"issuer": issuer.url, "token_url": issuer.token_url}},
            "ssh_credentials": {user: {"private_key": secret} for user in ("ann", "bob")},
            "clusters": [cluster],
        }
        centre = Centre(server, issuer, tmp_path, config)
        centre.scontrol("Slurmctld(primary) at vm is UP")
        yield centre
    await server.stop()


async def test_all_services_up(centre: Centre) -> None:
    certs = centre.root / "certs.json"
    certs.write_text(json.dumps({"keys": [SigningKey.generate(algorithm).jwk() for algorithm in ("RS256", "ES256")]}))
    centre.config["auth"]["authentication"]["public_certs"] = [centre.issuer.jwks_url, certs.as_uri()]
    found = await centre.findings()
    home = centre.root / "home" / "ann"
    issuer = centre.issuer.url
    assert list(found) == [
        f"one: ssh ann@127.0.0.1:{centre.ssh.port}",
        "one: slurm",
        f"one: {home}",
        f"issuer {issuer}",
        f"keys {centre.issuer.jwks_url}",
        f"keys {certs.as_uri()}",
        f"tokens {centre.issuer.token_url}",
    ]
    assert all(finding.ok and finding.seconds > 0 for finding in found.values()), found
    assert found[f"keys {certs.as_uri()}"].message == "2 keys"
    assert found[f"issuer {issuer}"].message == "names itself so"


async def test_every_login_node_is_tried(centre: Centre) -> None:
    ssh = centre.cluster["ssh"]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        ssh["hosts"] = [{"host": ssh.pop("host"), "port": ssh.pop("port")}, {"host": "127.0.0.1", "port": port}]
        path = centre.root / "config.yaml"
        path.write_text(yaml.safe_dump(centre.config))
        command = ["check", str(path), "--connect", "--user", "ann"]
        result = await asyncio.to_thread(CliRunner().invoke, app, command, env={"COLUMNS": "250"})
    rows = [[cell.strip() for cell in row.split("│")[1:3]] for row in result.stdout.splitlines() if " ms " in row]
    assert rows[:5] == [
        ["one: ssh ann@any of 2 login nodes", "yes"],
        ["one: slurm", "yes"],
        [f"one: {centre.root / 'home' / 'ann'}", "yes"],
        [f"one: ssh ann@127.0.0.1:{centre.ssh.port}", "yes"],
        [f"one: ssh ann@127.0.0.1:{port}", "no"],
    ], result.output
    assert result.exit_code == 1


async def test_transfers_through_the_gateway(centre: Centre) -> None:
    centre.cluster["file_systems"] = [
        {"path": str(centre.root / "home"), "data_type": "users", "default_work_dir": True}
    ]
    found = (await centre.findings())["one: transfers"]
    assert found.ok, found
    assert found.message == "s3 through the gateway, parts of 64 MiB, direct through the gateway, parts of 64 MiB"


async def test_refused_login_skips_the_other_checks_of_the_cluster(centre: Centre) -> None:
    found = await centre.findings("bob")
    ssh = found[f"one: ssh bob@127.0.0.1:{centre.ssh.port}"]
    assert not ssh.ok
    assert "the user's key" in ssh.advice
    assert not [what for what in found if what in ("one: slurm", "one: /")]


async def test_user_without_a_key(centre: Centre) -> None:
    ssh = next(iter((await centre.findings("cyd")).values()))
    assert (ssh.ok, "ssh_credentials" in ssh.advice) == (False, True)


async def test_unknown_host_key(centre: Centre) -> None:
    other = known_hosts_line("127.0.0.1", 22, asyncssh.generate_private_key("ssh-ed25519")).split()
    centre.cluster["ssh"]["host_keys"]["pinned"] = " ".join(other[1:])
    ssh = next(iter((await centre.findings()).values()))
    assert not ssh.ok
    assert "host key" in ssh.message.lower()
    assert "ssh.host_keys" in ssh.advice
    assert ssh.advice.startswith("compare the key")
    assert (
        ssh.message.partition(KNOWN_HOSTS_LINE)[2].split()
        == known_hosts_line("127.0.0.1", centre.cluster["ssh"]["port"], centre.ssh.host_key).split()
    )


async def test_connection_refused(centre: Centre) -> None:
    await centre.ssh.stop()
    ssh = next(iter((await centre.findings()).values()))
    assert (ssh.ok, "ssh.host, ssh.port" in ssh.advice) == (False, True)


async def test_silent_login_node_times_out(centre: Centre) -> None:
    centre.ssh.hang()
    ssh = next(iter((await centre.findings(seconds=0.2)).values()))
    assert (ssh.ok, "firewall" in ssh.advice) == (False, True)


async def test_scheduler_down(centre: Centre) -> None:
    centre.scontrol("Slurmctld(primary) at vm is DOWN")
    found = await centre.findings()
    assert (found["one: slurm"].ok, "DOWN" in found["one: slurm"].message) == (False, True)
    assert found["one: slurm"].advice == "the scheduler is down"
    assert found[f"one: {centre.root / 'home' / 'ann'}"].ok


async def test_scheduler_commands_not_found(centre: Centre) -> None:
    centre.cluster["scheduler"]["bin_dir"] = "/opt/no-such-slurm/bin"
    slurm = (await centre.findings())["one: slurm"]
    assert (slurm.ok, "scheduler.bin_dir" in slurm.advice) == (False, True)


async def test_file_systems(centre: Centre) -> None:
    paths = [str(centre.root / "home" / name) for name in ("ann", "nothing")]
    centre.cluster["file_systems"] = [{"path": path, "data_type": "users"} for path in paths]
    found = await centre.findings()
    told = [(found[f"one: {path}"].ok, found[f"one: {path}"].advice.partition(":")[0]) for path in paths]
    assert told == [
        (True, ""),
        (False, "correct file_systems[].path, or mount the file system"),
    ]


@pytest.mark.parametrize(
    ("fault", "said", "advice"),
    [
        (Fault.ERROR, "status 500", "check the URL"),
        (Fault.GARBAGE, "is not a JSON object", "check the URL"),
        (Fault.HANG, "", "firewall"),
    ],
)
async def test_issuer_errors(centre: Centre, fault: Fault, said: str, advice: str) -> None:
    centre.issuer.fault = fault
    found = await centre.findings(seconds=0.3 if fault is Fault.HANG else 5)
    issuer = found[f"issuer {centre.issuer.url}"]
    assert not issuer.ok
    assert said in issuer.message
    assert advice in issuer.advice
    assert fault is Fault.HANG or found["one: slurm"].ok  # in that little time a login may fail, too


@pytest.mark.parametrize(
    ("secret", "path", "said"),
    [("right", "introspect", "accepts the client"), ("wrong", "introspect", "401"), ("right", "jwks", "status 405")],
)
async def test_further_issuers_and_introspection(centre: Centre, secret: str, path: str, said: str) -> None:
    centre.issuer.clients["checker"] = ("right", "ann")
    url = f"{centre.issuer.url}/{path}"
    auth = centre.config["auth"]
    auth["issuers"] = [
        {
            "issuer": "http://127.0.0.1:1",
            "introspection": {"url": url, "client_id": "checker", "secret": secret},
        }
    ]
    found = await centre.findings()
    assert not found["issuer http://127.0.0.1:1"].ok
    introspection = found[f"introspection {url}"]
    assert introspection.ok == (said == "accepts the client")
    assert said in introspection.message


async def test_an_issuer_with_configured_keys_needs_no_discovery_document(centre: Centre, tmp_path: Path) -> None:
    authentication = centre.config["auth"]["authentication"]
    authentication |= {"issuer": "http://127.0.0.1:1", "public_certs": [centre.issuer.jwks_url]}
    found = (await centre.findings())["issuer http://127.0.0.1:1"]
    assert (found.ok, "none is needed" in found.message) == (True, True)
    authentication["issuer"] = centre.issuer.url + "/"  # it has one, with another name
    assert not (await centre.findings())[f"issuer {centre.issuer.url}/"].ok


async def test_issuer_name_mismatch(centre: Centre) -> None:
    centre.config["auth"]["authentication"]["issuer"] = centre.issuer.url + "/"
    issuer = (await centre.findings())[f"issuer {centre.issuer.url}/"]
    assert not issuer.ok
    assert centre.issuer.url in issuer.message
    assert "set `issuer` to this value" in issuer.advice


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "neither JSON nor PEM"),
        (b"[" * 100_000, "neither JSON nor PEM"),
        (b"[]", "neither JSON nor PEM"),
        (b"{}", "has no list `keys`"),
        (b'{"keys": 5}', "has no list `keys`"),
        (None, "No such file"),
    ],
)
async def test_invalid_jwks_file(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "keys with spaces.json"
    if content is not None:
        path.write_bytes(content)
    (finding,) = await _urls({"public_certs": [path.as_uri()]})
    assert (finding.ok, said in finding.message) == (False, True)


async def test_unreachable_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    refused, unknown = await _urls(
        {"public_certs": [f"http://127.0.0.1:{port}/certs"], "token_url": "https://no.such.host.invalid/token"}
    )
    assert (refused.ok, unknown.ok) == (False, False)
    assert "the host and the port" in refused.advice
    assert "the host and the port" in unknown.advice


class _Store(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(403 if self.path.startswith("/ok") else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


async def test_object_stores() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Store) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        store = {
            "service_type": "s3",
            "name": "s3",
            "private_url": f"{url}/broken",
            "public_url": f"{url}/ok",
            "access_key_id": "x",
            "secret_access_key": "hunter2",
            "region": "r",
            "ttl": 1,
        }
        cluster = {
            "ssh": {"host": "h"},
            "scheduler": {"type": "slurm", "version": "1"},
            "data_operation": {"data_transfer": store},
        }
        certs = f"{url}/ok"
        findings = await _urls({"public_certs": [certs]}, [{**cluster, "name": "a"}, {**cluster, "name": "b"}])
        await asyncio.to_thread(server.shutdown)
        thread.join()
    assert [(finding.subject, finding.ok, finding.message) for finding in findings] == [
        (f"keys {certs}", False, "status 403"),
        ("store s3 (private URL)", False, "status 503"),
        (f"store s3 {url}/ok", True, "status 403"),
    ]


async def _urls(tokens: dict[str, Any], clusters: list[dict[str, Any]] | None = None) -> list[CheckResult]:
    settings = Settings.model_validate(
        {
            "auth": {"authentication": tokens},
            "ssh_credentials": {"url": "https://keys.example.org"},
            "clusters": clusters or [],
        }
    )
    async with httpx.AsyncClient(trust_env=False, timeout=50, verify=False) as client:
        return [
            await run_check(what, ask(client), {httpx.ConnectError: "check the host and the port"})
            for what, ask in url_checks(settings)
        ]


@pytest.mark.parametrize(("user", "status"), [("ann", 0), ("bob", 1)])
async def test_check_connect_command(centre: Centre, user: str, status: int) -> None:
    path = centre.root / "config.yaml"
    path.write_text(yaml.safe_dump(centre.config))
    result = await asyncio.to_thread(
        CliRunner().invoke, app, ["check", str(path), "--connect", "--user", user], env={"COLUMNS": "250"}
    )
    assert result.exit_code == status, result.output
    assert "result" in result.stdout
    assert f"ssh {user}@127.0.0.1" in result.stdout
    assert ("bold" in result.stdout, "PRIVATE KEY" in result.output) == (False, False)
    rows = [row for row in result.stdout.splitlines() if row.startswith("│")]
    assert len(rows) >= 3
    assert all(("yes" in row) != (" no " in row) for row in rows if " ms " in row)


async def test_connections_that_the_login_node_drops_are_told_from_refused_keys(centre: Centre) -> None:
    subject = f"one: ssh ann@127.0.0.1:{centre.ssh.port}"
    centre.ssh.faults.penalties = True
    for _ in range(3):
        centre.ssh.login_failed()
    dropped = (await centre.findings())[subject]
    assert "after failed logins: 'Not allowed at this time'" in dropped.message
    assert dropped.advice.startswith("list the gateway's address in PerSourcePenaltyExemptList")
    centre.ssh.faults.penalties = False
    centre.ssh.max_startups = 0
    dropped = (await centre.findings(seconds=1))[subject]
    assert "'Exceeded MaxStartups'" in dropped.message
    assert dropped.advice.startswith("increase MaxStartups")
    centre.ssh.max_startups = 100
    centre.ssh.faults.disabled.add("ann")
    refused = (await centre.findings())[subject]
    assert "did not accept the SSH credentials" in refused.message
    assert "PerSourcePenaltyExemptList" in refused.advice


@pytest.mark.parametrize("columns", ["80", ""])
def test_lines_to_copy_are_printed_below_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    line = f"[login.example.org]:2222 ssh-ed25519 {'A' * 68}"
    host = "The host key of login.example.org:2222 is unknown."
    show([CheckResult(f"{name}: ssh", False, 0.1, f"{host} {KNOWN_HOSTS_LINE} {line}", "x") for name in ("a", "b")])
    output = capsys.readouterr().out.splitlines()
    assert output[-1] == line
    assert output.count(line) == 1
    assert max(len(one) for one in output[:-2]) <= (80 if columns else 160)
