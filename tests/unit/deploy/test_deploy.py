"""What `deploy/` says agrees with the code: versions, options, settings, times."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from configparser import RawConfigParser

import pytest
import yaml
from typer.testing import CliRunner

import flamecrest
from flamecrest.cli.main import app
from flamecrest.cli.serving.run import CLEANUP_SECONDS
from flamecrest.server.settings import ServerSettings
from tests.live.process import ROOT

CHART = ROOT / "deploy" / "helm" / "flamecrest"
UNIT = ROOT / "deploy" / "systemd" / "flamecrest.service"
NO_SECRETS = {"private_url", "public_cert", "pypi_index_url"}  # hold none in most centres: the chart lets them pass
MOST_EXPOSED = 20  # of 100, as systemd rates a unit; 16 and less is "OK" for it


def unit() -> RawConfigParser:
    found = RawConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(UNIT)
    return found


def test_chart_has_the_version_of_the_gateway() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == flamecrest.__version__


def test_schema_knows_exactly_the_values() -> None:
    def keys(values: object, schema: dict) -> None:
        if isinstance(values, dict) and values and "properties" in schema:
            assert set(values) == set(schema["properties"]) - {"global"}, values
            for name, one in values.items():
                keys(one, schema["properties"][name])

    keys(yaml.safe_load((CHART / "values.yaml").read_text()), json.loads((CHART / "values.schema.json").read_text()))


def test_chart_refuses_every_setting_that_is_a_secret() -> None:
    settings = (ROOT / "docs" / "settings.md").read_text()
    secrets = set(re.findall(r"^\| `(\w+)` \| (?:list of )?secret ", settings, re.MULTILINE))
    assert len(secrets) > 10
    (listed,) = re.findall(r"\(list ([^)]*)\)", (CHART / "templates" / "_secrets.tpl").read_text())
    assert set(re.findall(r'"(\w+)"', listed)) == secrets - NO_SECRETS


def test_unit_starts_programs_and_options_that_exist() -> None:
    service = unit()["Service"]
    for key in ("ExecStart", "ExecStartPre"):
        program, command, *arguments = service[key].split()
        assert program == "/opt/flamecrest/bin/flamecrest"
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0
        assert [one for one in arguments if one.startswith("--") and one not in shown.output] == []


def test_unit_waits_for_the_orderly_stop() -> None:
    defaults = ServerSettings()
    stop = defaults.shutdown_delay + defaults.shutdown_timeout + CLEANUP_SECONDS
    assert int(unit()["Service"]["TimeoutStopSec"]) >= stop + 20  # that a parent of workers waits longer
    assert unit()["Service"]["KillMode"] == "mixed"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_unit_is_hardened() -> None:
    argv = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", str(UNIT)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level for flamecrest.service" in done.stdout
