"""Errors in a configuration: each has file, line, key, message and hint; all are reported at once."""

# ruff: noqa: E501 - a table reads best with one case a line

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flamecrest.server.settings import Problem, Settings, SettingsError, load

Problems = Callable[..., list[Problem]]

BASE = """\
auth:
  authentication: {issuer: https://id.example.org}
ssh_credentials: {type: SSHService, url: https://keys.example.org}
clusters:
  - name: daint
    ssh: {host: login.example.org}
    scheduler: {type: slurm, version: 24.05.4}
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVjaG8gdGhpcyBpcyBub3QgYSBrZXkgYXQgYWxs"

# what stands there, what is put in its place, the line and key of the problem, a part of what is wrong and of what is right
CASES = [
    ("host: login", "hst: login", 6, "clusters[0].ssh.hst", "is not a setting", "did you mean `host`?"),
    ("host: login", "maxClient: 3, host: login", 6, "clusters[0].ssh.maxClient", "not a setting", "`maxClients`"),
    ("name: daint", "name: daint\n    max_ops_file_size: 3", 6, "clusters[0].max_ops_file_size", "not a setting here", "under `data_operation`"),
    ("name: daint", "name: daint\n    xyzzy: 3", 6, "clusters[0].xyzzy", "not a setting", "known keys: name, ssh"),
    ("auth:", "server: {worker_timeout: 1}\nauth:", 1, "server", "`worker_timeout` below 2", "worker_timeout: 30"),
    ("host: login", "port: 0, host: login", 6, "clusters[0].ssh.port", "`0` must be at least 1", "port: 22"),
    ("host: login", "port: 65536, host: login", 6, "clusters[0].ssh.port", "`65536` must be at most 65535", "port: 22"),
    ("host: login", "port: ssh, host: login", 6, "clusters[0].ssh.port", "`ssh` must be a whole number", "port: 22"),
    ("host: login", "port: 22.5, host: login", 6, "clusters[0].ssh.port", "`22.5` must be a whole number", "port: 22"),
    ("host: login", "port: on, host: login", 6, "clusters[0].ssh.port", "must be a number, not true or false", ""),
    ("host: login", "port: [22], host: login", 6, "clusters[0].ssh.port", "must be a whole number", "port: 22"),
    ("host: login", "max_clients: 0, host: login", 6, "clusters[0].ssh.max_clients", "at least 1", "max_clients: 100"),
    ("host: login", "timeout: {login: 0}, host: login", 6, "clusters[0].ssh.timeout.login", "`0` must be more than 0", "login: 5"),
    ("host: login", "timeout: {login: .inf}, host: login", 6, "clusters[0].ssh.timeout.login", "must be a number", ""),
    ("host: login", "timeout: {login: 1e99}, host: login", 6, "clusters[0].ssh.timeout.login", "must be at most", ""),
    ("host: login", "timeout: 5, host: login", 6, "clusters[0].ssh.timeout", "must be a mapping", ""),
    ("host: login", "timeout: [], host: login", 6, "clusters[0].ssh.timeout", "must be a mapping", ""),
    ("host: login.example.org", "host: login example", 6, "clusters[0].ssh.host", "is not a host name", "192.0.2.7"),
    ("host: login.example.org", "host: ssh://login", 6, "clusters[0].ssh.host", "is not a host name", ""),
    ("host: login.example.org", "host: -oProxyCommand=x", 6, "clusters[0].ssh.host", "is not a host name", ""),
    ("host: login.example.org", "port: 22", 6, "clusters[0].ssh.host", "is missing", "host: login.example.org"),
    ("host: login", "proxy_port: 22, host: login", 6, "clusters[0].ssh", "no `proxy_host`", "proxy_host: "),
    ("host: login", "max_age: 90000, host: login", 6, "clusters[0].ssh", "not greater than `max_age`", "86400"),
    ("ssh: {host: login.example.org}\n    scheduler: {type: slurm", "ssh: {hosts: [{host: a}, {host: b}]}\n    scheduler: {type: local", 5, "clusters[0]", "runs jobs on the login node", "one host"),
    ("host: login", "hosts: [{host: a}], host: login", 6, "clusters[0].ssh", "both `host` and `hosts`", "keep `hosts`"),
    ("host: login.example.org", "hosts: [{host: a}, {host: A}]", 6, "clusters[0].ssh.hosts", "`a` is listed twice", ""),
    ("host: login.example.org", "hosts: [{port: 22}]", 6, "clusters[0].ssh.hosts[0].host", "is missing", ""),
    ("host: login.example.org", "hosts: []", 6, "clusters[0].ssh.host", "is missing", ""),
    ("host: login.example.org", "hosts: [login]", 6, "clusters[0].ssh.hosts[0]", "must be a mapping", ""),
    ("host: login.example.org", "hosts: [{host: a, weight: 0}]", 6, "clusters[0].ssh.hosts[0].weight", "more than 0", ""),
    ("host: login", "host_keys: {policy: of}, host: login", 6, "clusters[0].ssh.host_keys.policy", "`of` is unknown", "did you mean off? one of verify"),
    ("host: login", "host_keys: {known_hosts: /no/such}, host: login", 6, "clusters[0].ssh.host_keys.known_hosts", "/no/such does not exist", ""),
    ("host: login", "host_keys: {pinned: hunter}, host: login", 6, "clusters[0].ssh.host_keys.pinned", "is not a public key", "ssh-ed25519 AAAA"),
    ("host: login", f"host_keys: {{pinned: [{KEY}, ssh-rsa {KEY.split()[1]}]}}, host: login", 6, "clusters[0].ssh.host_keys.pinned[1]", "of another type than its prefix says", ""),
    ("type: slurm", "type: slrum", 7, "clusters[0].scheduler.type", "`slrum` is unknown", "did you mean slurm?"),
    ("type: slurm", "type: [slurm]", 7, "clusters[0].scheduler.type", "is unknown", "one of slurm, pbs"),
    ("version: 24.05.4", "api_url: x", 7, "clusters[0].scheduler.version", "is missing", "version: 24.05.4"),
    ("version: 24.05.4", "version: ''", 7, "clusters[0].scheduler.version", "is empty", ""),
    ("type: slurm", "connectionMode: rest, type: slurm", 7, "clusters[0].scheduler", "needs `api_url`", "https://"),
    ("type: slurm", "connection_mode: hybrid, type: pbs", 7, "clusters[0].scheduler", "PBS has no REST", "connection_mode: ssh"),
    ("type: slurm", "bin_dir: opt/slurm, type: slurm", 7, "clusters[0].scheduler.bin_dir", "must be an absolute path", "/opt/slurm"),
    ("type: slurm", "type: slurm, Type: slurm", 7, "clusters[0].scheduler.Type", "is not a setting", "`type`"),
    ("name: daint", "name: a/b", 5, "clusters[0].name", "`a/b` cannot be part of a URL", "letters, digits"),
    ("name: daint", "name: ''", 5, "clusters[0].name", "is empty", ""),
    ("- name: daint", "-", 6, "clusters[0].name", "is missing", "name: daint"),
    ("name: daint", "name: daint\n    file_systems: [{path: home, data_type: users}]", 6, "clusters[0].file_systems[0].path", "`home` must be an absolute", "/home"),
    ("name: daint", "name: daint\n    file_systems: [{path: /a/../b, data_type: users}]", 6, "clusters[0].file_systems[0].path", "must not contain `..`", ""),
    ("name: daint", "name: daint\n    file_systems: [{path: /h, data_type: user}]", 6, "clusters[0].file_systems[0].data_type", "`user` is unknown", "did you mean users?"),
    ("name: daint", "name: daint\n    file_systems: {path: /h}", 6, "clusters[0].file_systems", "must be a list", ""),
    ("name: daint", "name: daint\n    file_systems: [/home]", 6, "clusters[0].file_systems[0]", "must be a mapping", ""),
    ("name: daint", "name: daint\n    file_systems: [{path: /h, data_type: users}, {path: /h/, data_type: users}]", 6, "clusters[0].file_systems", "/h is listed twice", ""),
    ("name: daint", "name: daint\n    file_systems: [{path: /h, data_type: users, default_work_dir: on}, {path: /i, data_type: users, default_work_dir: on}]", 6, "clusters[0].file_systems", "/h and /i are both", ""),
    ("name: daint", "name: daint\n    file_systems: [{path: /h, data_type: users, default_work_dir: maybe}]", 6, "clusters[0].file_systems[0].default_work_dir", "`maybe` must be true or false", ""),
    ("name: daint", "name: daint\n    data_operation: {data_transfer: {service_type: s4}}", 6, "clusters[0].data_operation.data_transfer.service_type", "`s4` is unknown", "did you mean s3?"),
    ("name: daint", "name: daint\n    data_operation: {data_transfer: {name: x}}", 6, "clusters[0].data_operation.data_transfer.service_type", "is missing", "one of s3, streamer, wormhole"),
    ("name: daint", "name: daint\n    data_operation: {data_transfer: s3}", 6, "clusters[0].data_operation.data_transfer", "must be a mapping", ""),
    ("name: daint", "name: daint\n    data_operation: {data_transfer: {service_type: streamer, port_range: [9, 8]}}", 6, "clusters[0].data_operation.data_transfer.port_range", "ends before it begins", "[8, 9]"),
    ("name: daint", "name: daint\n    data_operation: {data_transfer: {service_type: streamer, port_range: [8]}}", 6, "clusters[0].data_operation.data_transfer.port_range", "", ""),
    ("name: daint", "name: daint\n    data_operation: {maxOpsFileSize: -1}", 6, "clusters[0].data_operation.maxOpsFileSize", "at least 1", "5242880"),
    ("name: daint", "name: daint\n    probing: {services: {sssh: }}", 6, "clusters[0].probing.services.sssh", "is not a setting", "`ssh`"),
    ("name: daint", "name: daint\n    probing: {interval: 0}", 6, "clusters[0].probing.interval", "more than 0", ""),
    ("name: daint", "name: daint\n    probing: {interval: 3, interval_check: 3}", 6, "clusters[0].probing.interval_check", "the same as `interval`", "keep one"),
    ("name: daint", "name: daint\n    name: eiger", 6, "name", "is given twice (first in line 5)", "keep one"),
    ("clusters:", "clusters: 5\nclustrs:", 4, "clusters", "must be a list", ""),
    ("clusters:", "server: {host: }\nservr:", 5, "servr", "is not a setting", "`server`"),
    ("clusters:", "server: {log_level: loud}\nclusters:", 4, "server.log_level", "`loud` is unknown", "one of debug"),
    ("clusters:", "logger: {loggable_request_headers: [{input: Authorization, output: x}]}\nclusters:", 4, "logger.loggable_request_headers[0].input", "is never logged", ""),
    ("clusters:", "logger: {loggable_request_headers: [{input: x-a, output: x}, {input: X-A, output: y}]}\nclusters:", 4, "logger.loggable_request_headers", "x-a is given twice", "keep one"),
    ("clusters:", "server: {cors_origins: [https://a.example.org, https://b.example.org/]}\nclusters:", 4, "server.cors_origins[1]", "is not an origin", "https://app.example.org"),
    ("clusters:", "server: {cors_origins: ['https://a.example.org:443']}\nclusters:", 4, "server.cors_origins[0]", "is not an origin", "https://app.example.org"),
    ("clusters:", "server: {cors_origins: [App.example.org]}\nclusters:", 4, "server.cors_origins[0]", "is not an origin", "https://app.example.org"),
    ("clusters:", "server: {cors_origins: ['null']}\nclusters:", 4, "server.cors_origins[0]", "names nobody", ""),
    ("clusters:", "server: {trusted_proxies: [10.0.0.0/8, proxy.example.org]}\nclusters:", 4, "server.trusted_proxies[1]", "neither an IP address nor a network", "10.0.0.0/8"),
    ("clusters:", "server: {trusted_proxies: [10.0.0.1/8]}\nclusters:", 4, "server.trusted_proxies[0]", "neither an IP address nor a network", ""),
    ("clusters:", "apis_root_path: v2\nclusters:", 4, "apis_root_path", "must begin with one slash", "/firecrest/v2"),
    ("clusters:", "apis_root_path: //v2\nclusters:", 4, "apis_root_path", "must begin with one slash", ""),
    ("clusters:", "doc_servers: [{url: /}, {description: x}]\nclusters:", 4, "doc_servers[1]", "needs the text `url`", "https://"),
    ("clusters:", "doc_servers: [{url: /, description: [x]}]\nclusters:", 4, "doc_servers[0]", "`description`", ""),
    ("issuer: https://id.example.org", "username_claim: x", 2, "auth.authentication", "has no keys", "issuer: "),
    ("issuer: https://id.example.org", "issuer: id.example.org", 2, "auth.authentication.issuer", "is not a URL", "https://"),
    ("issuer: https://id.example.org", "issuer: 'https://id.example.org:x'", 2, "auth.authentication.issuer", "is not a URL", ""),
    ("issuer: https://id.example.org", "issuer: 'https://'", 2, "auth.authentication.issuer", "without a host", ""),
    ("issuer: https://id.example.org", "public_certs: https://id.example.org/certs", 2, "auth.authentication.public_certs", "must be a list", "[https://"),
    ("issuer: https://id.example.org", "public_certs: ['file:keys.json']", 2, "auth.authentication.public_certs[0]", "absolute path", "file:///"),
    ("issuer: https://id.example.org", "issuer: https://id.example.org, username_pattern: '('", 2, "auth.authentication", "username_pattern is no regular expression", ""),
    ("issuer: https://id.example.org", "issuer: https://id.example.org, account_template: '{name}'", 2, "auth.authentication", "placeholder that is unknown", "{value}"),
    ("issuer: https://id.example.org", "issuer: https://id.example.org, account_template: '{value.x}'", 2, "auth.authentication", "placeholder that is unknown", ""),
    ("issuer: https://id.example.org", "issuer: https://id.example.org, accounts: {alice: root}", 2, "auth.authentication", "cannot be an account", ""),
    ("issuer: https://id.example.org", "issuer: https://id.example.org, accounts: {alice: ../x}", 2, "auth.authentication", "cannot be an account", ""),
    ("issuer: https://id.example.org", "issuer: https://id.example.org, id_token_claims: true", 2, "auth.authentication", "needs an audience", "set `audience`"),
    ("issuer: https://id.example.org", "issuer: https://id.example.org, algorithms: [HS256]", 2, "auth.authentication.algorithms[0]", "`HS256` is unknown", "did you mean RS256?"),
    ("issuer: https://id.example.org", "issuer: https://id.example.org, leeway: -1", 2, "auth.authentication.leeway", "`-1` must be at least 0", "leeway: 5"),
    ("auth:\n  authentication: {issuer: https://id.example.org}\n", "", None, "auth", "is missing", "authentication: {issuer: "),
    ("{type: SSHService, url: https://keys.example.org}", "{type: SSHServce}", 3, "ssh_credentials.type", "`SSHServce` is unknown", "did you mean SSHService? one of"),
    ("{type: SSHService, url: https://keys.example.org}", "{type: SSHStaticKeys}", 3, "ssh_credentials.keys", "is missing", "secret_file:"),
    ("{type: SSHService, url: https://keys.example.org}", "{alice: {private_ky: x}}", 3, "ssh_credentials.alice.private_ky", "is not a setting", "`private_key`"),
    ("{type: SSHService, url: https://keys.example.org}", "{alice: {private_key: ''}}", 3, "ssh_credentials.alice.private_key", "is empty", "secret_file:"),
    ("{type: SSHService, url: https://keys.example.org}", "5", 3, "ssh_credentials", "must be a mapping", ""),
    ("{type: SSHService, url: https://keys.example.org}", "{type: SSHCertificates, signing_keys: []}", 3, "ssh_credentials", "must have one key, or two", "flamecrest ca key"),
    ("{type: SSHService, url: https://keys.example.org}", "{type: SSHCertificates, signing_keys: [{type: agent, socket: /s, public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5}, {type: agent, socket: /s, public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5}, {type: agent, socket: /s, public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5}]}", 3, "ssh_credentials", "must have one key, or two", ""),
    ("{type: SSHService, url: https://keys.example.org}", "{type: SSHCertificates, signing_keys: [{type: agent, socket: /s, public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5}], principals: []}", 3, "ssh_credentials", "principals is empty", ""),
    ("{type: SSHService, url: https://keys.example.org}", "{type: SSHCertificates, signing_keys: [{type: agent, socket: /s, public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5}], principals: hpc}", 3, "ssh_credentials", "do not depend on the user", "{user}"),
    ("{type: SSHService, url: https://keys.example.org}", "{type: SSHCertificates, signing_keys: [{type: agent, socket: /s, public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5}], principals: '{subject}'}", 3, "ssh_credentials.principals", "placeholder that is unknown", "{user}, {cluster}"),
    ("{type: SSHService, url: https://keys.example.org}", "{type: SSHCertificates, signing_keys: [{type: agent, socket: /s, public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5}], principals: '{user'}", 3, "ssh_credentials.principals", "placeholder that is unknown", ""),
    ("{type: SSHService, url: https://keys.example.org}", "{type: SSHCertificates, signing_keys: [{type: agent, socket: /s, public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5}], key_id: '{email}'}", 3, "ssh_credentials.key_id", "placeholder that is unknown", "{client}"),
    ("{type: SSHService, url: https://keys.example.org}", "{type: SSHCertificates, signing_keys: [{type: agent, socket: /s, public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5}], source_address: 192.0.2.7/24}", 3, "ssh_credentials.source_address", "neither an IP address nor a network", ""),
    ("{type: SSHService, url: https://keys.example.org}", "{type: SSHCertificates, signing_keys: [{type: agent, socket: /s, public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5}], extensions: ['permit pty']}", 3, "ssh_credentials.extensions", "not the name of an extension", ""),
    ("{type: SSHService, url: https://keys.example.org}", "{type: SSHCertificates, signing_keys: [{type: agent, socket: /s, public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5}], validity: 0}", 3, "ssh_credentials.validity", "must be more than 0", ""),
    ("{type: SSHService, url: https://keys.example.org}", "{type: SSHCertificates, signing_keys: [{type: file, private_key: x}]}", 3, "ssh_credentials.signing_keys[0]", "private_key can't be read", "flamecrest ca key"),
    ("{type: SSHService, url: https://keys.example.org}", "{type: SSHCertificates, signing_keys: [{type: agent, socket: /s, public_key: x}]}", 3, "ssh_credentials.signing_keys[0].public_key", "not a public key", ""),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "key", "wrong", "right"), CASES)
def test_a_mistake(
    problems: Problems, tmp_path: Path, old: str, new: str, line: int | None, key: str, wrong: str, right: str
) -> None:
    assert old in BASE
    found = problems(BASE.replace(old, new, 1))
    matching = [problem for problem in found if problem.key == key]
    assert matching, [str(problem) for problem in found]
    assert matching[0].location.file == str(tmp_path / "config.yaml")
    assert matching[0].location.line == line
    assert wrong in matching[0].message
    assert right in matching[0].hint


def test_the_base_is_right(read: Callable[[str], object]) -> None:
    assert read(BASE)


def test_all_mistakes_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    text = """\
auht: {}
auth:
  authentication: {issuer: ftp://x, min_token_ttl: soon}
ssh_credentials: {type: None}
clusters:
  - name: Daint
    ssh: {prt: 1}
  - name: daint
    scheduler: {type: lsf}
"""
    found = [(problem.location.line, problem.key) for problem in problems(text)]
    assert found == [
        (1, "auht"),
        (3, "auth.authentication.min_token_ttl"),
        (3, "auth.authentication.issuer"),
        (4, "ssh_credentials.type"),
        (6, "clusters[0].scheduler"),
        (7, "clusters[0].ssh.prt"),
        (7, "clusters[0].ssh.host"),
        (8, "clusters[1].name"),
        (8, "clusters[1].ssh"),
        (9, "clusters[1].scheduler.type"),
        (9, "clusters[1].scheduler.version"),
    ]


OWN = "\n    ssh_credentials: {type: SSHService, url: https://own.example.org}"


def test_credentials_of_each_cluster_are_enough(read: Callable[[str], Settings]) -> None:
    line = "ssh_credentials: {type: SSHService, url: https://keys.example.org}\n"
    own = read(BASE.replace(line, "").replace("name: daint", f"name: daint{OWN}"))
    assert own.ssh_credentials is None
    assert own.credentials(own.clusters[0]) is own.clusters[0].ssh_credentials


def test_a_cluster_without_credentials_is_named(problems: Problems) -> None:
    line = "ssh_credentials: {type: SSHService, url: https://keys.example.org}\n"
    second = BASE[BASE.index("  - name") :].replace("daint", "eiger")
    text = BASE.replace(line, "").replace("name: daint", f"name: daint{OWN}") + second
    found = problems(text.replace("https://id", "ftp://id"))
    assert [(problem.location.line, problem.key) for problem in found] == [
        (2, "auth.authentication.issuer"),
        (3, "clusters"),
    ]
    assert "the cluster eiger has no `ssh_credentials`" in found[1].message
    assert "SSHStaticKeys" in found[1].hint


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("fifo", "no regular file"),
        ("folder", "no regular file"),
        ("link", "symbolic link"),
        ("/dev/full", "no regular"),
    ],
)
def test_an_audit_log_is_a_regular_file(problems: Problems, tmp_path: Path, kind: str, wrong: str) -> None:
    at = tmp_path / kind
    match kind:
        case "fifo":
            os.mkfifo(at)
        case "folder":
            at.mkdir()
        case "link":
            at.symlink_to(tmp_path / "log")
    (problem,) = problems(f"{BASE}audit: {{file: {at}}}\n")
    assert (problem.location.line, problem.key) == (8, "audit.file")
    assert wrong in problem.message
    assert problem.hint


def test_an_audit_log_may_exist(read: Callable[[str], Settings], tmp_path: Path) -> None:
    for _ in range(2):
        assert read(f"{BASE}audit: {{file: {tmp_path / 'log'}}}\n").audit is not None
        (tmp_path / "log").touch()


def test_two_clusters_of_one_name(problems: Problems) -> None:
    second = BASE[BASE.index("  - name") :].replace("daint", "DAINT")
    (problem,) = problems(BASE + second)
    assert (problem.location.line, problem.key) == (8, "clusters[1].name")
    assert "two clusters are named daint" in problem.message


def test_a_problem_as_text(problems: Problems, tmp_path: Path) -> None:
    (problem,) = problems(BASE.replace("type: slurm", "type: slrum"))
    expected = "clusters[0].scheduler.type: `slrum` is unknown (did you mean slurm? one of slurm, pbs, local)"
    assert str(problem) == f"{tmp_path}/config.yaml:7: {expected}"


@pytest.mark.parametrize(
    ("text", "line", "wrong"),
    [
        ("auth:\n\tauthentication: {}\n", 2, "a tab"),
        ("auth: {\n", 2, "is not valid YAML"),
        ("auth: [1, 2\nb: 3\n", 2, "is not valid YAML"),
        ("auth:\n  a: 1\n b: 2\n", 3, "the indentation"),
        ("auth: a: b\n", 1, "unexpected colon"),
        ("auth:\nfoo\nbar: 1\n", 3, "missing colon"),
        ('auth: "abc\n', 2, "unterminated quoted string"),
        ("a: *nowhere\n", 1, "`*` begins an alias"),
        ("a: @x\n", 1, "invalid first character"),
        ("a: 1\n---\nb: 2\n", 2, "more than one document"),
        ("- a\n", None, "must be a mapping"),
        ("just a text\n", None, "must be a mapping"),
        ("", None, "is empty"),
        ("# only a comment\n", None, "is empty"),
        ('a: "\\z"\n', 1, "unknown escape"),
    ],
)
def test_no_yaml(problems: Problems, text: str, line: int | None, wrong: str) -> None:
    (problem,) = problems(text)
    assert problem.location.line == line
    assert wrong in problem.message


def test_no_file(tmp_path: Path) -> None:
    for path, wrong in (
        (tmp_path / "nothing.yaml", "does not exist"),
        (tmp_path, "is a directory"),
        (tmp_path / "a\0b", "the path is invalid"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ):
        with pytest.raises(SettingsError) as error:
            load(path, {})
        (problem,) = error.value.problems
        assert wrong in problem.message
        assert problem.location.file == str(path)


def test_no_file_named() -> None:
    with pytest.raises(SettingsError, match="--config FILE or set FLAMECREST_CONFIG"):
        load(None, {"YAML_CONFIG_FILE": ""})


def test_a_missing_directory_of_clusters(problems: Problems) -> None:
    text = BASE[: BASE.index("clusters:")] + "clusters: path:/no/such/directory\n"
    (problem,) = problems(text)
    assert (problem.location.line, problem.key) == (4, "clusters")
    assert "/no/such/directory cannot be read: No such file" in problem.message


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"auth:\n  a: \xff\n")
    with pytest.raises(SettingsError, match=r"config.yaml:2: is not UTF-8"):
        load(path, {})


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load(path, {}).clusters


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "cookie",
        "X-Auth-Token",
        "x-api-key",
        "X_API_KEY",
        "X-Access-Key",
        "X-Amz-Signature",
        "X-Auth",
        "X-Session-Id",
        "X-Goog-IAP-JWT-Assertion",
        "a b",
        "é",
    ],
)
def test_header_that_may_hold_a_secret_is_never_logged(
    problems: Callable[..., list[Problem]], minimal: str, name: str
) -> None:
    headers = f"loggable_request_headers: [{{input: {name}, output: x}}]"
    (problem,) = problems(f"logger: {{enable_tracing_log: true, {headers}}}\n{minimal}")
    assert problem.key == "logger.loggable_request_headers[0].input"
