"""Secrets are read from files and never shown in an error, a repr or a dump."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.settings import Problem, Settings, SettingsError, StaticKeysSettings, load, warnings

Read = Callable[..., Settings]
Problems = Callable[..., list[Problem]]

SECRET = "hunter2-correct-horse"

FULL = f"""\
auth:
  authentication: {{issuer: https://id.example.org}}
ssh_credentials:
  type: SSHStaticKeys
  keys:
    alice: {{private_key: {SECRET}, public_cert: {SECRET}, passphrase: {SECRET}}}
clusters:
  - name: daint
    ssh: {{host: login.example.org}}
    scheduler: {{type: slurm, version: 24.05.4}}
    service_account: {{client_id: probe, secret: {SECRET}}}
    data_operation:
      data_transfer:
        service_type: s3
        name: s3
        private_url: https://{SECRET}.example.org
        public_url: https://s3.example.org
        access_key_id: {SECRET}
        secret_access_key: {SECRET}
        region: r
        ttl: 1
"""


def test_nothing_shows_a_secret(read: Read) -> None:
    settings = read(FULL)
    for text in (
        repr(settings),
        str(settings),
        repr(settings.model_dump()),
        repr(settings.model_dump(mode="json")),
        settings.model_dump_json(),
        repr(settings.clusters),
        "\n".join(warnings(settings)),
        f"{settings.ssh_credentials}",
    ):
        assert SECRET not in text
    assert isinstance(settings.ssh_credentials, StaticKeysSettings)
    assert settings.ssh_credentials.keys["alice"].private_key.get_secret_value() == SECRET


# Mistakes right where secrets stand: of the wrong shape, the wrong place, the wrong spelling, no YAML at all.
BROKEN = [
    ("{SECRET}}}\nclusters", "{SECRET}, oops: 1}}\nclusters"),
    ("private_key: {SECRET}", "private_key: [{SECRET}]"),
    ("private_key: {SECRET}", "private_key: {{key: {SECRET}}}"),
    ("private_key: {SECRET}", "privat_key: {SECRET}"),
    ("private_key: {SECRET}", "private_key: *{SECRET}"),
    ("private_key: {SECRET}", "private_key: !{SECRET} x"),
    ("private_key: {SECRET}", "private_key: &{SECRET} &{SECRET} x"),
    ("private_key: {SECRET}", "private_key: '{SECRET}"),
    ("private_key: {SECRET}", 'private_key: "{SECRET}\\q"'),
    ("private_key: {SECRET}", "private_key: @{SECRET}"),
    ("private_key: {SECRET}", "private_key: %{SECRET}"),
    ("private_key: {SECRET}", "private_key: x: {SECRET}"),
    ("private_key: {SECRET}", 'private_key: "{SECRET}\\0"'),
    ("private_key: {SECRET}", "private_key: {SECRET}, private_key: {SECRET}x"),
    ("private_key: {SECRET}", "private_key: {SECRET}, privateKey: {SECRET}x"),
    ("alice: {{private_key: {SECRET}, public_cert: {SECRET}, passphrase: {SECRET}}}", "alice: {SECRET}"),
    ("alice: {{private_key: {SECRET}, public_cert: {SECRET}, passphrase: {SECRET}}}", "private_key: {SECRET}"),
    ("service_account: {{client_id: probe, secret: {SECRET}}}", "service_account: {SECRET}"),
    ("service_account: {{client_id: probe, secret: {SECRET}}}", "secret: {SECRET}"),
    ("host: login.example.org", "host: alice:{SECRET}@login.example.org"),
    ("issuer: https://id.example.org", "issuer: https://alice:{SECRET}@id.example.org"),
    ("issuer: https://id.example.org", "issuer: 'https://{SECRET} x'"),
    ("public_url: https://s3.example.org", "public_url: s3://alice:{SECRET}@s3"),
    ("private_url: https://{SECRET}.example.org", "private_url: [{SECRET}]"),
    ("access_key_id: {SECRET}", "access_key_id: {{a: {SECRET}}}"),
    ("access_key_id: {SECRET}", "access_key: {SECRET}"),
    ("ttl: 1", "ttl: {{a: {SECRET}}}"),
]


@pytest.mark.parametrize(("old", "new"), BROKEN)
def test_no_mistake_shows_a_secret(tmp_path: Path, old: str, new: str, caplog: pytest.LogCaptureFixture) -> None:
    old, new = old.format(SECRET=SECRET), new.format(SECRET=SECRET)
    assert old in FULL
    path = tmp_path / "config.yaml"
    path.write_text(FULL.replace(old, new, 1))
    with caplog.at_level(logging.DEBUG), pytest.raises(SettingsError) as error:
        load(path, {})
    told = [str(error.value), repr(error.value), repr(error.value.problems), caplog.text]
    told.append("".join(traceback.format_exception(error.value)))
    told.append(repr(pickle.dumps(error.value.problems)))
    assert not [text for text in told if SECRET in text]
    assert error.value.__context__ is None


def test_a_mistake_in_a_variable_shows_no_secret(problems: Problems) -> None:
    environ = {
        "FLAMECREST__SSH_CREDENTIALS__KEYS__ALICE__PRIVATE_KY": SECRET,
        "FLAMECREST__CLUSTERS__DAINT__SERVICE_ACCOUNT": f"{{secret: {SECRET}",
        "FLAMECREST__CLUSTERS__DAINT__SERVICE_ACCOUNT__SECRET": f"secret_file:/no/such/file\0{SECRET}",
    }
    found = problems(FULL, environ)
    assert len(found) >= 3
    assert SECRET not in "\n".join(map(str, found))


def test_files(read: Read, minimal: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xef\xbb\xbf\n  line one\nline two \n\n")
    settings = read(minimal, {"FLAMECREST__SSH_CREDENTIALS__KEYS__ALICE__PRIVATE_KEY": f"secret_file:{path}"})
    assert isinstance(settings.ssh_credentials, StaticKeysSettings)
    assert settings.ssh_credentials.keys["alice"].private_key.get_secret_value() == "line one\nline two"


def test_files_below_home(read: Read, minimal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    environ = {"FLAMECREST__SSH_CREDENTIALS__KEYS__ALICE__PASSPHRASE": "secret_file:~/alice"}
    settings = read(minimal, environ)
    assert isinstance(settings.ssh_credentials, StaticKeysSettings)
    passphrase = settings.ssh_credentials.keys["alice"].passphrase
    assert passphrase is not None
    assert passphrase.get_secret_value() == "a private key"


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"x" * (1024 * 1024 + 1), "is larger than"),
    ],
)
def test_a_secret_file_that_is_of_no_use(
    problems: Problems, minimal: str, tmp_path: Path, content: bytes | None, wrong: str
) -> None:
    if content is None:
        (tmp_path / "alice").unlink()
    else:
        (tmp_path / "alice").write_bytes(content)
    (problem,) = problems(minimal)
    assert (problem.location.line, problem.key) == (9, "ssh_credentials.keys.alice.private_key")
    assert wrong in problem.message


def test_a_directory_for_a_secret_file(problems: Problems, minimal: str, tmp_path: Path) -> None:
    (tmp_path / "alice").unlink()
    (tmp_path / "alice").mkdir()
    (problem,) = problems(minimal)
    assert "is a directory" in problem.message
    assert str(tmp_path / "alice") in problem.message


def test_inline_secrets_are_warned_about(read: Read, minimal: str) -> None:
    (warning,) = [text for text in warnings(read(FULL)) if "secret_file:" in text]
    for key in ("keys.alice.private_key", "clusters[daint].service_account.secret", "data_transfer.secret_access_key"):
        assert key in warning
    assert "private_url" not in warning
    assert not [text for text in warnings(read(minimal)) if "secret" in text]
    by_variable = {"FLAMECREST__SSH_CREDENTIALS__KEYS__ALICE__PASSPHRASE": "inline, but in no file"}
    assert not [text for text in warnings(read(minimal, by_variable)) if "secret" in text]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=6).filter(lambda text: text.strip() == text))
def test_any_text_is_a_secret_and_stays_one(secret: str) -> None:
    """A passphrase that looks like a number, a boolean or YAML is taken literally and not shown."""
    environ = {
        "FLAMECREST__SSH_CREDENTIALS__KEYS__BOB__PRIVATE_KEY": "x",
        "FLAMECREST__SSH_CREDENTIALS__KEYS__BOB__PASSPHRASE": secret,
    }
    try:
        settings = load(Path(__file__).with_name("minimal.yaml"), environ)
    except SettingsError as error:
        assert (secret.startswith("secret_file:"), bool(error.problems)) == (True, True)  # noqa: PT017
        return
    assert isinstance(settings.ssh_credentials, StaticKeysSettings)
    passphrase = settings.ssh_credentials.keys["bob"].passphrase
    assert passphrase is not None
    assert passphrase.get_secret_value() == secret
