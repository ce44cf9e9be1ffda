"""The command line: help, version, valid and invalid configurations, exit statuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import flamecrest
from flamecrest.cli import settings_doc
from flamecrest.cli.main import app

GOOD = """\
auth:
  authentication: {issuer: https://id.example.org, audience: flamecrest}
ssh_credentials:
  keys: {alice: {private_key: "secret_file:SECRET"}}
clusters:
  - name: daint
    ssh: {host: login.example.org}
    scheduler: {type: slurm, version: 24.05.4}
    file_systems: [{path: /home, data_type: users}]
"""

runner = CliRunner()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    secret = tmp_path / "alice"
    secret.touch(mode=0o600)
    secret.write_text("a key")
    path = tmp_path / "good.yaml"
    path.write_text(GOOD.replace("SECRET", str(secret)))
    return path


@pytest.fixture
def bad(good: Path) -> Path:
    path = good.with_name("bad[1].yaml")
    path.write_text(
        good.read_text().replace("type: slurm", "type: slrum").replace("host: login", "prt: 3, host: login")
    )
    return path


def test_version() -> None:
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"flamecrest {flamecrest.__version__}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help(arguments: list[str]) -> None:
    result = runner.invoke(app, arguments)
    for command in ("serve", "check", "settings-doc"):
        assert command in result.output
    assert "FirecREST v2" in result.output


@pytest.mark.parametrize("command", ["serve", "check", "demo", "settings-doc"])
def test_help_of_a_command_has_examples(command: str) -> None:
    result = runner.invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    _, _, examples = result.output.partition("Examples:")
    assert f"  flamecrest {command}" in examples


@pytest.mark.parametrize(
    ("command", "names"),
    [("explain", "VERB CLUSTER PATH"), ("audit verify", "FILE"), ("ca key", "FILE"), ("stream send", "FILE")],
)
def test_arguments_are_in_capitals(command: str, names: str) -> None:
    result = runner.invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"})
    usage = next(line for line in result.output.splitlines() if "Usage:" in line).partition("[OPTIONS]")[2]
    assert re.sub(r"[^A-Za-z ]", "", usage).split() == names.split()


@pytest.mark.parametrize("command", ["serve", "check", "demo", "settings-doc"])
def test_every_option_has_a_help_text(command: str) -> None:
    result = runner.invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for line in result.output.splitlines():
        if "--" in line and "│" in line:
            assert line.rstrip(" │").endswith((".", "]")), line


def test_check_accepts_a_valid_configuration(good: Path) -> None:
    result = runner.invoke(app, ["check", str(good)])
    assert result.exit_code == 0
    assert result.stdout == "The configuration is valid: 1 cluster (daint).\n"
    assert "note: nothing is probed of daint: " in result.stderr
    probed = {
        "FLAMECREST__CLUSTERS__DAINT__PROBING": '{"interval_check": 60, "services": {"ssh": {"timeout": 5}}}',
        "FLAMECREST__CLUSTERS__DAINT__SERVICE_ACCOUNT": '{"client_id": "probe", "secret": "s"}',
    }
    assert "nothing is probed of daint: only" not in runner.invoke(app, ["check", str(good)], env=probed).stderr


def test_check_reads_the_path_from_the_environment(good: Path) -> None:
    result = runner.invoke(app, ["check"], env={"FLAMECREST_CONFIG": str(good)})
    assert "(daint)" in result.stdout
    overridden = {"YAML_CONFIG_FILE": str(good), "FLAMECREST__CLUSTERS__DAINT__NAME": "eiger"}
    assert "(eiger)" in runner.invoke(app, ["check"], env=overridden).stdout


def test_check_shows_warnings(good: Path) -> None:
    result = runner.invoke(app, ["check", str(good)], env={"FLAMECREST__AUTH__AUTHENTICATION__AUDIENCE": ""})
    assert result.exit_code == 0
    assert "warning: auth.authentication.audience is not set" in result.stderr


@pytest.mark.parametrize("command", [["check"], ["serve", "--config"]])
def test_invalid_configuration(bad: Path, command: list[str]) -> None:
    result = runner.invoke(app, [*command, str(bad)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"error: {bad}:7: clusters[0].ssh.prt: is not a setting (did you mean `port`?)\n" in result.stderr
    assert f"error: {bad}:8: clusters[0].scheduler.type: `slrum` is unknown (did you mean slurm?" in result.stderr
    assert result.stderr.endswith("2 errors in the configuration\n")


@pytest.mark.parametrize("command", ["check", "serve"])
def test_missing_configuration(command: str) -> None:
    result = runner.invoke(app, [command], env={"FLAMECREST_CONFIG": "", "YAML_CONFIG_FILE": ""})
    assert result.exit_code == 2
    assert "error: flamecrest: no configuration file is given (use --config FILE" in result.stderr


def test_configuration_values_are_not_interpreted_as_markup(good: Path) -> None:
    good.write_text(good.read_text().replace("type: slurm", "type: '[red]x[/red]'"))
    assert "`[red]x[/red]` is unknown" in runner.invoke(app, ["check", str(good)]).stderr


def test_connect_needs_a_user(good: Path) -> None:
    good.write_text(good.read_text().replace("{alice: {private_key", "{} #"))
    result = runner.invoke(app, ["check", "--connect", str(good)])
    assert result.exit_code == 1
    assert "give the user to log in as with --user" in result.stderr


def test_settings_doc(tmp_path: Path) -> None:
    assert runner.invoke(app, ["settings-doc"]).stdout == settings_doc.render()
    path = tmp_path / "settings.md"
    assert runner.invoke(app, ["settings-doc", "--write", str(path)]).exit_code == 0
    assert path.read_text() == settings_doc.render()


@pytest.mark.parametrize("arguments", [["check", "x"], ["serve"], ["settings-doc"]])
def test_without_the_server_extra(arguments: list[str]) -> None:
    """As in the base install, the YAML package cannot be imported."""
    code = "import sys; sys.modules['yaml'] = None; from flamecrest.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "pip install 'flamecrest[server]'" in done.stderr
    assert "yaml is missing" in done.stderr


def test_the_installed_command() -> None:
    command = Path(sys.executable).parent / "flamecrest"
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"flamecrest {flamecrest.__version__}\n"


def test_help_imports_only_base_install_packages() -> None:
    """`flamecrest --help` works without the server's packages and does not load them."""
    code = (
        "import sys; from flamecrest.cli import main; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'yaml', 'fastapi', 'uvicorn', 'asyncssh', 'jwt', 'orjson'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_the_configuration_is_an_argument_or_an_option(tmp_path: Path) -> None:
    absent, other = str(tmp_path / "absent.yaml"), str(tmp_path / "other.yaml")
    for command in ("check", "serve"):
        for given in ([absent], ["--config", absent], ["-c", absent], [absent, "--config", absent]):
            result = CliRunner().invoke(app, [command, *given])
            assert (result.exit_code, absent in result.stderr.replace("\n", "")) == (2, True), result.output
        both = CliRunner().invoke(app, [command, absent, "--config", other])
        assert (both.exit_code, "two configuration files are given" in both.stderr) == (2, True)
