"""Configuration files of all FirecREST v2 versions are accepted unchanged."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic.alias_generators import to_camel

from flamecrest.server.settings import (
    S3TransferSettings,
    Settings,
    SettingsError,
    SshCaSettings,
    SshServiceSettings,
    StaticKeysSettings,
    StreamerTransferSettings,
    WormholeTransferSettings,
    load,
)

EVERY_KEY = """\
app_debug: true
app_version: 2.x.x
apis_root_path: /firecrest/v2
doc_servers:
  - url: https://api.example.org/firecrest/v2
    description: Production
auth:
  authentication:
    scopes: {openid: Who you are}
    token_url: https://id.example.org/token
    token_endpoint_auth_method: client_secret_post
    public_certs:
      - https://id.example.org/certs
      - file:///etc/flamecrest/keys.json
    username_claim: sub
    jwk_algorithm: RS512
    min_token_ttl: 60
  authorization:
    url: https://fga.example.org/stores/1
    timeout: 3
    max_connections: 0
ssh_credentials:
  type: SSHStaticKeys
  keys:
    fireuser:
      private_key: |
        -----BEGIN OPENSSH PRIVATE KEY-----
        b3BlbnNzaC1rZXktdjE
        -----END OPENSSH PRIVATE KEY-----
      public_cert: SECRET_FILE
    firesrv:
      private_key: SECRET_FILE
      public_cert: ""
      passphrase: SECRET_FILE
clusters:
  - name: Cluster-One
    ssh:
      host: 192.0.2.4
      port: 2222
      proxy_host: jump.example.org
      proxy_port: 23
      max_clients: 500
      timeout:
        connection: 6
        login: 7
        command_execution: 8
        idle_timeout: 61
        keep_alive: 9
    scheduler:
      type: slurm
      connection_mode: ssh
      version: 24.11
      api_url: http://192.0.2.4:6820
      api_version: 0.0.42
      timeout: 11
    service_account:
      client_id: health-check
      secret: SECRET_FILE
    services_health: []
    last_health_check: 2025-01-01T00:00:00Z
    probing:
      interval_check: 121
      startup_grace_period: 300
      services:
        ssh:
        scheduler: {timeout: 20}
        filesystem: {timeout: 21}
        storage: {timeout: 22}
        exception: {}
    file_systems:
      - path: /home
        data_type: users
        default_work_dir: true
      - path: /scratch
        data_type: scratch
    data_operation:
      max_ops_file_size: 1048576
      datatransfer_jobs_directives: ["#SBATCH --nodes=1", "#SBATCH --account={account}"]
      data_transfer:
        service_type: s3
        name: s3-storage
        private_url: http://192.0.2.9:9000
        public_url: http://localhost:9000
        access_key_id: an id
        secret_access_key: SECRET_FILE
        region: us-east-1
        ttl: 604800
        tenant: tenant
        multipart:
          use_split: true
          max_part_size: 1073741824
          parallel_runs: 4
          tmp_folder: parts
        bucket_lifecycle_configuration:
          days: 3
        bucket_name_prefix: f7t-
      probing:
        timeout: 10
        interval: 60
logger:
  enable_tracing_log: true
  loggable_request_headers:
    - input: user-agent
      output: user_agent
"""


def in_camel_case(text: str) -> str:
    """The same document with every key in camel case (except names of users)."""
    return re.sub(r"(?<![\w-])([a-z]+(?:_[a-z0-9]+)+)(?=:(?!/))", lambda found: to_camel(found[1]), text)


def test_every_key_in_both_spellings(read: Callable[[str], Settings], secret_file: Callable[[str, str], str]) -> None:
    text = EVERY_KEY.replace("SECRET_FILE", secret_file("secret", "from a file"))
    camel = in_camel_case(text)
    assert "loggableRequestHeaders" in camel
    assert "startup_grace_period" not in camel
    snake = read(text)
    assert read(camel) == snake

    tokens = snake.auth.authentication
    assert tokens.username_claim == "sub"
    assert tokens.jwk_algorithm == "RS512"
    assert tokens.min_token_ttl == 60
    assert tokens.token_endpoint_auth_method == "client_secret_post"
    assert tokens.public_certs == ("https://id.example.org/certs", "file:///etc/flamecrest/keys.json")
    assert snake.auth.authorization is not None
    assert snake.auth.authorization.max_connections == 0
    keys = snake.ssh_credentials
    assert isinstance(keys, StaticKeysSettings)
    assert keys.keys["fireuser"].private_key.get_secret_value().startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert keys.keys["firesrv"].private_key.get_secret_value() == "from a file"
    assert keys.keys["firesrv"].public_cert is None
    assert keys.keys["firesrv"].passphrase.get_secret_value() == "from a file"  # type: ignore[union-attr]

    (cluster,) = snake.clusters
    assert cluster.name == "cluster-one"
    assert (cluster.ssh.port, cluster.ssh.proxy_port, cluster.ssh.max_clients) == (2222, 23, 500)
    assert cluster.ssh.timeout.model_dump() == {
        "connection": 6,
        "login": 7,
        "command_execution": 8,
        "idle_timeout": 61,
        "keep_alive": 9,
    }
    assert (cluster.scheduler.version, cluster.scheduler.api_version) == ("24.11", "0.0.42")
    assert cluster.service_account is not None
    assert cluster.service_account.secret.get_secret_value() == "from a file"
    assert cluster.probing.timeouts() == {"ssh": 10, "scheduler": 20, "filesystem": 21, "s3": 22}
    assert (cluster.probing.interval_check, cluster.probing.startup_grace_period) == (121, 300)
    assert [system.default_work_dir for system in cluster.file_systems] == [True, False]
    transfer = snake.operations(cluster).data_transfer
    assert isinstance(transfer, S3TransferSettings)
    assert (transfer.multipart.parallel_runs, transfer.bucket_lifecycle_configuration.days) == (4, 3)
    assert snake.logger.loggable_request_headers[0].output == "user_agent"
    assert snake.log_level == "debug"


RENAMED = """\
auth:
  authentication:
    tokenUrl: http://localhost:8080/token
    publicCerts: [http://localhost:8080/certs]
ssh_credentials:
  fireuser:
    private_key: key one
  firesrv:
    privateKey: key two
    passphrase: secret
clusters:
  - name: one
    ssh: {host: 192.0.2.2, port: 22, proxy_host: "", timeout: }
    scheduler: {type: slurm, version: 24.11.0, api_url: ""}
    service_account: {client_id: health, secret: ""}
    servicesHealth:
    probing: {interval: 60, timeout: 5}
    datatransfer_jobs_directives: ["#SBATCH --nodes=1"]
    file_systems:
storage:
  name: s3
  private_url: http://192.0.2.9:9000
  public_url: http://localhost:9000
  access_key_id: id
  secret_access_key: secret
  region: us-east-1
  ttl: 604800
  max_ops_file_size: 1048576
  probing: {timeout: 10}
"""


def test_forms_of_earlier_versions(read: Callable[[str], Settings]) -> None:
    """FirecREST 2.2 and 2.3: keys by user, one storage, directives and one probe timeout at the cluster."""
    settings = read(RENAMED)
    assert isinstance(settings.ssh_credentials, StaticKeysSettings)
    assert list(settings.ssh_credentials.keys) == ["fireuser", "firesrv"]
    (cluster,) = settings.clusters
    assert cluster.ssh.proxy_host is None
    assert cluster.ssh.timeout.connection == 5
    assert cluster.scheduler.api_url is None
    assert cluster.probing.timeouts() == {"ssh": 5, "scheduler": 5, "filesystem": 5}
    assert cluster.probing.interval_check == 60
    operations = settings.operations(cluster)
    assert operations.max_ops_file_size == 1048576
    assert operations.datatransfer_jobs_directives == ("#SBATCH --nodes=1",)
    assert isinstance(operations.data_transfer, S3TransferSettings)
    assert operations.data_transfer.secret_access_key.get_secret_value() == "secret"


def test_an_own_data_operation_goes_before_the_older_places(read: Callable[[str], Settings]) -> None:
    own = (
        "    data_operation: {max_ops_file_size: 5, datatransfer_jobs_directives: [x], "
        "data_transfer: {service_type: streamer}}\n"
    )
    settings = read(RENAMED.replace("    file_systems:\n", own) + "data_operation: {max_ops_file_size: 7}\n")
    operations = settings.operations(settings.clusters[0])
    assert (operations.max_ops_file_size, operations.datatransfer_jobs_directives) == (5, ("x",))
    assert isinstance(operations.data_transfer, StreamerTransferSettings)


def test_a_data_operation_for_all_clusters(read: Callable[[str], Settings], minimal: str) -> None:
    settings = read(minimal + "data_operation: {maxOpsFileSize: 7, data_transfer: {serviceType: wormhole}}\n")
    operations = settings.operations(settings.clusters[0])
    assert operations.max_ops_file_size == 7
    assert isinstance(operations.data_transfer, WormholeTransferSettings)


def test_nothing_configured_is_told_apart_from_the_default(read: Callable[[str], Settings], minimal: str) -> None:
    settings = read(minimal)
    operations = settings.operations(settings.clusters[0])
    assert operations.max_ops_file_size is None
    assert operations.data_transfer is None
    assert settings.clusters[0].probing.timeouts() == {}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{type: SSHService, url: https://keys.example.org, max_connections: 500}", SshServiceSettings),
        ("{type: SSHCA, url: https://ca.example.org, maxConnections: 500}", SshCaSettings),
        ("{url: https://keys.example.org}", SshServiceSettings),
        ("{keys: {alice: {private_key: x}}}", StaticKeysSettings),
        ("{alice: {private_key: x}}", StaticKeysSettings),
    ],
)
def test_kinds_of_credentials(
    read: Callable[[str], Settings], minimal: str, written: str, expected: type[object]
) -> None:
    start, end = minimal.index("ssh_credentials"), minimal.index("clusters:")
    settings = read(f"{minimal[:start]}ssh_credentials: {written}\n{minimal[end:]}")
    assert isinstance(settings.ssh_credentials, expected)


def test_streamer_keys(read: Callable[[str], Settings], minimal: str) -> None:
    streamer = """\
data_operation:
  data_transfer:
    service_type: streamer
    pypi_index_url: https://someone:hunter2@pypi.example.org/simple
    host: 0.0.0.0
    port_range: [5665, 5666]
    public_ips: [192.0.2.1]
    wait_timeout: 43200
    inbound_transfer_limit: 5368709120
"""
    settings = read(minimal + streamer)
    transfer = settings.operations(settings.clusters[0]).data_transfer
    assert isinstance(transfer, StreamerTransferSettings)
    assert transfer.port_range == (5665, 5666)
    assert "hunter2" not in repr(settings)


def test_clusters_in_a_directory(tmp_path: Path, read: Callable[[str], Settings], minimal: str) -> None:
    folder = tmp_path / "clusters"
    folder.mkdir()
    for file, name in (("b.yaml", "beta"), ("a.yml", "alpha")):
        (folder / file).write_text(f"name: {name}\nssh: {{host: h}}\nscheduler: {{type: slurm, version: 24.05}}\n")
    (folder / "README.md").write_text("no cluster")
    (folder / ".hidden.yaml").write_text("{")
    text = minimal[: minimal.index("clusters:")] + f'clusters: "path:{folder}"\n'
    assert [cluster.name for cluster in read(text).clusters] == ["alpha", "beta"]


def test_a_mistake_in_a_cluster_file_names_that_file(tmp_path: Path, minimal: str) -> None:
    folder = tmp_path / "clusters"
    folder.mkdir()
    (folder / "a.yaml").write_text("name: alpha\nssh:\n  host: h\n  prt: 1\nscheduler: {type: slurm}\n")
    (folder / "b.yaml").write_text("- name: beta\n")
    (folder / "c.yaml").write_text("name: [\n")
    (folder / "d.yaml").write_text("")
    config = tmp_path / "config.yaml"
    config.write_text(minimal[: minimal.index("clusters:")] + f"clusters: path:{folder}\n")
    with pytest.raises(SettingsError) as error:
        load(config, {})
    found = [(problem.location.file, problem.location.line, problem.key) for problem in error.value.problems]
    assert found == [
        (f"{folder}/a.yaml", 4, "ssh.prt"),
        (f"{folder}/a.yaml", 5, "scheduler.version"),
        (f"{folder}/b.yaml", None, ""),
        (f"{folder}/c.yaml", 2, ""),
        (f"{folder}/d.yaml", None, ""),
    ]


def test_anchors_and_merge_keys(read: Callable[[str], Settings], minimal: str) -> None:
    text = minimal.replace("    scheduler:\n", "    scheduler: &slurm\n      timeout: 9\n").replace(
        "      host: login.example.org\n", "      <<: [{port: 6}, {port: 7, max_clients: 8}]\n      host: h\n"
    )
    text += "  - name: eiger\n    ssh: {host: e}\n    scheduler: {<<: *slurm, version: 1}\n"
    daint, eiger = read(text).clusters
    assert (daint.ssh.host, daint.ssh.port, daint.ssh.max_clients) == ("h", 6, 8)
    assert (eiger.scheduler.type, eiger.scheduler.timeout, eiger.scheduler.version) == ("slurm", 9, "1")


def test_constructed_in_code(read: Callable[[str], Settings]) -> None:
    """The models accept both spellings and the older forms without a file, too."""
    settings = Settings.model_validate(
        {
            "auth": {"authentication": {"issuer": "https://id.example.org", "usernameClaim": "sub"}},
            "sshCredentials": {"alice": {"privateKey": "x"}},
            "clusters": [
                {
                    "name": "one",
                    "ssh": {"host": "h", "hostKeys": {"policy": False}},
                    "scheduler": {"type": "slurm", "version": "1"},
                    "dataOperation": {"dataTransfer": {"serviceType": "wormhole"}},
                }
            ],
        }
    )
    assert settings.auth.authentication.username_claim == "sub"
    assert settings.clusters[0].ssh.host_keys.policy == "off"
    assert isinstance(settings.clusters[0].data_operation.data_transfer, WormholeTransferSettings)
