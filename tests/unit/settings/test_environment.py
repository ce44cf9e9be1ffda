"""Settings from environment variables, which override those of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.settings import Problem, Settings, SettingsError, StaticKeysSettings, load, warnings

Read = Callable[..., Settings]
Problems = Callable[..., list[Problem]]


class Login:
    """The private key of a user as a string."""

    def __init__(self, settings: Settings, user: str) -> None:
        assert isinstance(settings.ssh_credentials, StaticKeysSettings)
        keys = settings.ssh_credentials.keys[user]
        self.private_key: str = keys.private_key.get_secret_value()
        self.passphrase: str | None = keys.passphrase.get_secret_value() if keys.passphrase is not None else None


def test_the_file_is_found_by_its_variables(tmp_path: Path, minimal: str) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(minimal.replace("daint", name))
    named = {"FLAMECREST_CONFIG": str(tmp_path / "one"), "YAML_CONFIG_FILE": str(tmp_path / "two")}
    assert load(None, named).clusters[0].name == "one"
    assert load(tmp_path / "two", named).clusters[0].name == "two"
    assert load(None, {"YAML_CONFIG_FILE": str(tmp_path / "two")}).clusters[0].name == "two"


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("AUTH__AUTHENTICATION__USERNAME_CLAIM", "sub", lambda s: s.auth.authentication.username_claim == "sub"),
        ("AUTH__AUTHENTICATION__USERNAMECLAIM", "0123", lambda s: s.auth.authentication.username_claim == "0123"),
        ("auth__authentication__username_claim", "no", lambda s: s.auth.authentication.username_claim == "no"),
        ("AUTH__AUTHENTICATION__ISSUER", "https://x.org", lambda s: s.auth.authentication.issuer == "https://x.org"),
        ("AUTH__AUTHENTICATION__AUDIENCE", "a", lambda s: s.auth.authentication.audience == ("a",)),
        ("AUTH__AUTHENTICATION__AUDIENCE", "[a, b]", lambda s: s.auth.authentication.audience == ("a", "b")),
        ("AUTH__AUTHENTICATION__AUDIENCE", '["a"]', lambda s: s.auth.authentication.audience == ("a",)),
        ("AUTH__AUTHENTICATION__LEEWAY", "7.5", lambda s: s.auth.authentication.leeway == 7.5),
        ("AUTH__AUTHENTICATION__SCOPES", "{a: b}", lambda s: s.auth.authentication.scopes == {"a": "b"}),
        ("APP_DEBUG", "yes", lambda s: s.app_debug),
        ("CLUSTERS__DAINT__SSH__PORT", "2222", lambda s: s.clusters[0].ssh.port == 2222),
        ("CLUSTERS__0__SSH__PORT", "2222", lambda s: s.clusters[0].ssh.port == 2222),
        ("CLUSTERS__DAINT__SSH", "{host: h}", lambda s: s.clusters[0].ssh.host == "h"),
        ("CLUSTERS__DAINT__SSH__TIMEOUT__LOGIN", "9", lambda s: s.clusters[0].ssh.timeout.login == 9),
        ("CLUSTERS__DAINT__SCHEDULER__VERSION", "24.10", lambda s: s.clusters[0].scheduler.version == "24.10"),
        ("CLUSTERS__DAINT__PROBING__INTERVAL", "9", lambda s: s.clusters[0].probing.interval_check == 9),
        ("CLUSTERS__DAINT__PROBING__SERVICES__SSH", "", lambda s: s.clusters[0].probing.timeouts() == {"ssh": 10}),
        ("CLUSTERS__DAINT__FILE_SYSTEMS__0__PATH", "/x", lambda s: s.clusters[0].file_systems[0].path == "/x"),
        ("CLUSTERS__DAINT__FILE_SYSTEMS", "[]", lambda s: s.clusters[0].file_systems == ()),
        ("CLUSTERS", "[]", lambda s: s.clusters == ()),
        ("SERVER__LOG_LEVEL", "error", lambda s: s.log_level == "error"),
        ("SERVER__TRUSTED_PROXIES__1", "10.0.0.1", None),
        ("SERVER__TRUSTED_PROXIES__0", "10.0.0.1", lambda s: s.server.trusted_proxies == ("10.0.0.1",)),
        ("SSH_CREDENTIALS__KEYS__ALICE__PASSPHRASE", "0123", lambda s: Login(s, "alice").passphrase == "0123"),
        ("SSH_CREDENTIALS__KEYS__bOb__PRIVATE_KEY", "[x]", lambda s: Login(s, "bOb").private_key == "[x]"),
        ("SSH_CREDENTIALS__KEYS__BOB__PRIVATE_KEY", "true", lambda s: Login(s, "bob").private_key == "true"),
        ("APP_VERSION", "anything", lambda s: s.clusters),
    ],
)
def test_an_override(read: Read, minimal: str, name: str, value: str, got: Callable[[Settings], bool] | None) -> None:
    environ = {f"FLAMECREST__{name}": value, "OTHER": "x"}
    if got is None:  # the list has no element before it
        with pytest.raises(SettingsError, match="no such element"):
            read(minimal, environ)
    else:
        assert got(read(minimal, environ))


def test_a_cluster_whose_name_no_variable_can_hold(read: Read, minimal: str) -> None:
    text = minimal.replace("daint", "cluster-slurm.ssh")
    settings = read(text, {"FLAMECREST__CLUSTERS__CLUSTER_SLURM_SSH__SSH__PORT": "23"})
    assert settings.clusters[0].ssh.port == 23


def test_a_whole_section_first_then_what_is_in_it(read: Read, minimal: str) -> None:
    environ = {
        "FLAMECREST__CLUSTERS__DAINT__SSH__PORT": "3",
        "FLAMECREST__CLUSTERS__DAINT__SSH": "{host: h, port: 2}",
        "FLAMECREST__SERVER": '{"port": 9000}',
        **{f"FLAMECREST__AUTH__AUTHENTICATION__PUBLIC_CERTS__{n}": f"https://x/{n}" for n in reversed(range(12))},
    }
    settings = read(minimal, environ)
    assert (settings.clusters[0].ssh.host, settings.clusters[0].ssh.port, settings.server.port) == ("h", 3, 9000)
    assert settings.auth.authentication.public_certs == tuple(f"https://x/{n}" for n in range(12))


def test_a_configuration_of_variables_alone(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("{}")
    settings = load(
        path,
        {
            "FLAMECREST__AUTH__AUTHENTICATION__ISSUER": "https://id.example.org",
            "FLAMECREST__SSH_CREDENTIALS__TYPE": "SSHStaticKeys",
            "FLAMECREST__SSH_CREDENTIALS__KEYS__alice__PRIVATE_KEY": "hunter2",
            "FLAMECREST__CLUSTERS__0__NAME": "daint",
            "FLAMECREST__CLUSTERS__0__SSH__HOST": "h",
            "FLAMECREST__CLUSTERS__DAINT__SCHEDULER__TYPE": "slurm",
            "FLAMECREST__CLUSTERS__DAINT__SCHEDULER__VERSION": "24.05",
        },
    )
    assert settings.clusters[0].scheduler.version == "24.05"
    assert not [warning for warning in warnings(settings) if "secret" in warning]


def test_clusters_of_a_directory_by_variable(tmp_path: Path, read: Read, minimal: str) -> None:
    folder = tmp_path / "clusters"
    folder.mkdir()
    (folder / "a.yaml").write_text("name: alpha\nssh: {host: h}\nscheduler: {type: slurm, version: 1}\n")
    environ = {"FLAMECREST__CLUSTERS": f"path:{folder}", "FLAMECREST__CLUSTERS__ALPHA__SSH__PORT": "5"}
    (cluster,) = read(minimal, environ).clusters
    assert (cluster.name, cluster.ssh.port) == ("alpha", 5)


def test_the_environment_mends_the_file(read: Read, minimal: str) -> None:
    text = minimal.replace("host: login.example.org", "host: not a host")
    assert read(text, {"FLAMECREST__CLUSTERS__DAINT__SSH__HOST": "h"}).clusters[0].ssh.host == "h"


def test_older_credentials(read: Read, minimal: str) -> None:
    text = (
        minimal.replace("  type: SSHStaticKeys\n  keys:\n", "")
        .replace("    alice:", "  alice:")
        .replace("      private", "    private")
    )
    settings = read(text, {"FLAMECREST__SSH_CREDENTIALS__KEYS__ALICE__PASSPHRASE": "x"})
    assert Login(settings, "alice").passphrase == "x"


@pytest.mark.parametrize(
    ("name", "value", "wrong", "right"),
    [
        ("AUTH__AUTHENTICATION__USERNAME_CLAM", "x", "is not a setting", "`username_claim`"),
        ("CLUSTERS__EIGER__SSH__PORT", "1", "no such element: eiger", "known: daint"),
        ("CLUSTERS__7__SSH__PORT", "1", "no such element: 7", "known: daint"),
        ("CLUSTERS__DAINT__FILE_SYSTEMS__x__PATH", "1", "no such element", "the list has 1 elements"),
        ("CLUSTERS__DAINT__SSH__PORT", "99999", "`99999` must be at most 65535", "port: 22"),
        ("CLUSTERS__DAINT__SSH__TIMEOUT", "[", "is not valid YAML", ""),
        ("CLUSTERS__DAINT__SSH__TIMEOUT", "{login: !x y}", "tag", ""),
        ("SERVER", "{port: 1, hots: x}", "is not a setting", "`host`"),
        ("", "1", "is not a setting", ""),
        ("__", "1", "is not a setting", ""),
        ("CLUSTERS__DAINT__SSH__HOST", "\udcff", "contains an invalid character", ""),
        ("CLUSTERS__DAINT__SCHEDULER__TYPE", "slrum", "`slrum` is unknown", "did you mean slurm?"),
    ],
)
def test_a_mistake_names_the_variable(
    problems: Problems, minimal: str, name: str, value: str, wrong: str, right: str
) -> None:
    (problem,) = problems(minimal, {f"FLAMECREST__{name}": value})
    assert problem.location.file == f"environment variable FLAMECREST__{name}"
    assert problem.location.line is None
    assert wrong in problem.message
    assert right in problem.hint


@given(
    st.dictionaries(
        st.text("ACSU_0x\udcff.", max_size=20).map(lambda name: f"FLAMECREST__{name}")
        | st.sampled_from(
            [
                "FLAMECREST__CLUSTERS__0__SSH__PORT",
                "FLAMECREST__SERVER__HOST",
                "FLAMECREST__AUTH",
                "FLAMECREST__CLUSTERS",
            ]
        ),
        st.text(max_size=20),
        max_size=4,
    )
)
def test_no_environment_breaks_the_reader(environ: dict[str, str]) -> None:
    """Any environment results in Settings or SettingsError."""
    try:
        settings = load(Path(__file__).with_name("minimal.yaml"), environ)
    except SettingsError as error:
        assert error.problems  # noqa: PT017
    else:
        assert settings.auth
