"""The documentation is complete and valid: paths, links, packages, commands, statuses, log fields."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from flamecrest.cli.main import app
from flamecrest.server.http.core.errors import STATUS
from flamecrest.server.ssh.counters import PoolCounters
from flamecrest.server.telemetry import log
from flamecrest.server.telemetry.metrics.catalog import table as metrics_table
from flamecrest.server.telemetry.trace import Trace, log_request, phase

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
AT_ROOT = [*sorted(ROOT.glob("*.md")), ROOT / "bench" / "README.md", ROOT / "changelog.d" / "README.md"]
PLACES = ("src/", "server/", "wire/", "cli/", "sandbox/", "tests/", "bench/", "docs/", "scripts/", "changelog.d/")
COMMANDS = (DOCS / "operators" / "commands.md").read_text("utf-8")


def text(page: str) -> str:
    return (DOCS / page).read_text("utf-8")


@pytest.mark.parametrize("page", AT_ROOT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_outside_the_site(page: Path) -> None:
    """The site's own links are checked when it is built."""
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    assert [target for target in targets if "://" not in target and not (page.parent / target).exists()] == []


def exists(path: str) -> bool:
    return any((base / path).exists() for base in (ROOT, ROOT / "src" / "flamecrest"))


@pytest.mark.parametrize(
    "page", [ROOT / "ARCHITECTURE.md", *sorted((DOCS / "developers").glob("*.md"))], ids=lambda page: page.name
)
def test_paths_on_the_developers_pages(page: Path) -> None:
    named = re.findall(r"`([\w./-]+)`", page.read_text("utf-8"))
    assert [path for path in named if path.startswith(PLACES) and not exists(path)] == []


@pytest.fixture(scope="module")
def source() -> str:
    return "\n".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))


@pytest.mark.parametrize(
    "page", [ROOT / "ARCHITECTURE.md", *sorted((DOCS / "developers").glob("*.md"))], ids=lambda page: page.name
)
def test_names_on_the_developers_pages(page: Path, source: str) -> None:
    """Classes, methods as Class.method, and functions as name()."""
    code = re.findall(r"`([^`\n]+)`", page.read_text("utf-8"))
    classes = {name for one in code for name in re.findall(r"^(?:[A-Z][a-z]+){2,}(?=$|\.)", one)}
    functions = {name for one in code for name in re.findall(r"^(?:[A-Z]\w+\.)?([a-z_]+)(?:\(.*\))$", one)}
    missing = [name for name in sorted(classes) if not re.search(rf"class {name}\b", source)]
    assert missing + [name for name in sorted(functions) if not re.search(rf"def {name}\b", source)] == []


def first_configuration(page: str, key: Path) -> str:
    """The configuration that a page shows, with this file of a key."""
    (shown,) = re.findall(
        r"cat > flamecrest.yaml <<'END'\n(.*?)^END$", (ROOT / page).read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert "/etc/flamecrest/keys/alice" in shown
    return str(shown).replace("/etc/flamecrest/keys/alice", str(key))


@pytest.mark.parametrize("page", ["README.md", "docs/start/own-cluster.md"])
def test_first_configuration_is_valid(page: str, tmp_path: Path) -> None:
    key, file = tmp_path / "key", tmp_path / "flamecrest.yaml"
    key.write_text("a key")
    file.write_text(first_configuration(page, key))
    done = CliRunner().invoke(app, ["check", str(file)])
    assert (done.exit_code, "(daint)" in done.output) == (0, True), done.output


def test_a_token_of_ones_own_is_accepted(tmp_path: Path) -> None:
    page = (DOCS / "start" / "own-cluster.md").read_text("utf-8")
    (shown,) = re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    made = subprocess.run(
        ["bash", "-ec", f'{shown}printf %s "$TOKEN"'], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "issuer.pem").stat().st_mode & 0o077 == 0
    key, file, token = tmp_path / "key", tmp_path / "flamecrest.yaml", tmp_path / "token"
    key.write_text("a key")
    token.write_bytes(made.stdout)
    configuration = first_configuration("docs/start/own-cluster.md", key)
    certs = f'public_certs: ["{(tmp_path / "issuer.pub").as_uri()}"], issuer'
    file.write_text(configuration.replace("{issuer", f"{{{certs}", 1))
    asked = ["explain", "--config", str(file), "--token-file", str(token), "status", "daint"]
    done = CliRunner().invoke(app, asked)
    assert (done.exit_code, "alice" in done.output) == (0, True), done.output


def test_every_package_is_on_the_architecture_page() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    source = ROOT / "src" / "flamecrest"
    rooms = [
        room.parent.relative_to(source) for depth in ("*", "server/*") for room in source.glob(f"{depth}/__init__.py")
    ]
    assert len(rooms) > 10
    assert [str(room) for room in rooms if f"{room}/" not in page] == []


def test_every_decision_is_listed() -> None:
    listed = text("adr/README.md")
    pages = [page.name for page in (DOCS / "adr").glob("0*.md")]
    assert [page for page in pages if f"]({page})" not in listed] == []


def commands():
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return [
        (f"{name} {inner}".strip(), one)
        for name, command in group.commands.items()
        for inner, one in (command.commands.items() if isinstance(command, TyperGroup) else [("", command)])
    ]


@pytest.mark.parametrize(("name", "command"), commands(), ids=lambda one: one if isinstance(one, str) else "")
def test_every_command_and_option_is_described(name, command) -> None:
    (row,) = re.findall(rf"^\| `flamecrest {name}` \|.*$", COMMANDS, re.MULTILINE)
    options = [max(one.opts, key=len) for one in command.params if one.param_type_name == "option"]
    assert [option for option in options if option != "--help" and f"`{option}" not in row] == []


def test_every_option_of_the_program_is_described() -> None:
    options = [option for one in get_command(app).params for option in one.opts]
    assert [
        option for option in options if f"`flamecrest {option}`" not in COMMANDS and f"`{option}`" not in COMMANDS
    ] == []


def test_every_status_of_an_error_is_described() -> None:
    rows = "\n".join(re.findall(r"^\| ([\d, ]+) \|", text("users/index.md"), re.MULTILINE))
    assert [status for status in {*STATUS.values(), 500} if str(status) not in rows] == []


def test_every_counter_of_the_pool_is_described() -> None:
    described = text("operators/logs.md")
    assert [one.name for one in fields(PoolCounters) if f"`{one.name}`" not in described] == []


def test_every_metric_is_described() -> None:
    """The table is `table()` of the catalog: paste what it returns."""
    assert metrics_table() in text("operators/metrics.md")


def test_every_field_of_the_access_log_is_described() -> None:
    stream = io.StringIO()
    loggers = (logging.getLogger(), logging.getLogger("flamecrest.access"))
    handlers, levels = loggers[0].handlers[:], [one.level for one in loggers]
    try:
        log.log_to_stream(stream, logging.DEBUG)
        loggers[1].setLevel(logging.DEBUG)
        phases = {name: phase(name) for name in ("auth", "queue", "connect", "ssh")}
        log_request(Trace("id", "id", error="NotFound", detail="why", phases=phases, trace_id="t"), 0.5, "/path")
    finally:
        loggers[0].handlers[:] = handlers
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
    written = json.loads(stream.getvalue())
    assert {"auth_ms", "queue_ms", "ssh_ms", "path", "error"} <= set(written)
    described = text("operators/logs.md")
    assert [field for field in written if f"`{field}`" not in described] == []
