"""Every setting is obeyed or warned about: none is accepted and silently ignored."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from flamecrest.server.settings import (
    NoEffect,
    ReadBy,
    Section,
    Settings,
    expected_field_value,
    load,
    warnings,
)
from tests.certificates import write_certificate

from .test_documentation import ALL

pytestmark = pytest.mark.timeout(240)  # a gateway is started and watched, which takes seconds of processor time

HERE = Path(__file__).parent
EVERYTHING = HERE / "everything.yaml"
READ = [(section, name) for section in ALL for name in section.model_fields if isinstance(section.use_of(name), ReadBy)]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file that sets every supported field, with its keys."""
    folder = tmp_path_factory.mktemp("everything")
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(folder / "alice")
    key.write_public_key(folder / "alice.pub")
    (folder / "known_hosts").write_text("")
    write_certificate(folder)
    (folder / "keys.json").write_text('{"keys": []}')
    (folder / "ssh_ca").write_bytes(key.export_private_key(passphrase="secret", rounds=1, ignore_few_rounds=True))
    (folder / "rules.yaml").write_text("- name: from the file\n")
    path = folder / "everything.yaml"
    public = " ".join(key.export_public_key().decode().split()[:2])
    path.write_text(EVERYTHING.read_text().replace("FOLDER", str(folder)).replace("PUBLIC_KEY", public))
    return path


def sections(value: Any) -> Iterator[Section]:
    """All sections in a configuration."""
    if isinstance(value, Section):
        yield value
        value = {name: getattr(value, name) for name in type(value).model_fields}
    for below in value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else ():
        yield from sections(below)


def test_everything_is_set(everything: Path) -> None:
    """Of each section there is an instance that sets each field."""
    given: dict[type[Section], set[str]] = {}
    for section in sections(load(everything, {})):
        given.setdefault(type(section), set()).update(section.model_fields_set)
    assert given == {section: set(section.model_fields) for section in ALL}


@pytest.fixture(scope="module")
def older(everything: Path) -> Path:
    """The same without what keeps the older forms of settings from being read: the newer forms."""
    text = everything.read_text()
    for newer in (
        r"s3: , (?=storage: )",
        r"  data_transfer:\n    service_type: wormhole\n(    .*\n)*",
        r"(?<=\ndata_operation:\n)  max_ops_file_size: 1000\n",
    ):
        text, found = re.subn(newer, "", text)
        assert found == 1
    path = everything.with_name("older.yaml")
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def readers(everything: Path, older: Path) -> dict[str, set[str]]:
    """The modules that read each field while a gateway with one of these files starts, serves, is used and stops."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in (everything, older):
        command = [sys.executable, str(HERE / "record_reads.py"), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for name, modules in json.loads(done.stdout).items():
            found[name].update(modules)
    return found


@pytest.mark.parametrize(("section", "name"), READ, ids=lambda value: getattr(value, "__name__", value))
def test_setting_is_read_by_its_declared_reader(
    readers: dict[str, set[str]], section: type[Section], name: str
) -> None:
    use = section.use_of(name)
    assert isinstance(use, ReadBy)
    modules = readers.get(f"{section.__name__}.{name}", set())
    if use.reader != "server.settings":  # the tag of a variant: validation itself reads it
        assert [module for module in modules if f"{module}.".startswith(f"flamecrest.{use.reader}.")], modules


def test_settings_without_effect_are_warned_about(everything: Path) -> None:
    text = "\n".join(warnings(load(everything, {})))
    inside = {
        variant
        for section in ALL
        for name in section.model_fields
        if isinstance(section.use_of(name), NoEffect)
        for variant in expected_field_value(section, name).variants
    }  # the warning names the field that contains them
    for section in set(ALL) - inside:
        fields = [name for name in section.model_fields if isinstance(section.use_of(name), NoEffect)]
        for name in (*fields, *section.IGNORED):
            assert re.search(rf"\b{name}\b.* (has|have) no effect: ", text), f"{section.__name__}.{name}"


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("    audience", "    scopes: {openid: x}\n    audience", "auth.authentication.scopes"),
        ("    audience", "    authorization_url: https://x\n    audience", "auth.authentication.authorization_url"),
        ("auth:\n", "logger: {enable_tracing_log: true}\nauth:\n", "logger.enable_tracing_log"),
        (
            "auth:\n",
            "logger: {loggable_request_headers: [{input: user-agent, output: agent}]}\nauth:\n",
            "logger.loggable_request_headers",
        ),
        ("type: slurm", "type: slurm\n      api_url: https://x", "cluster daint: scheduler.api_url"),
        (
            "scheduler:\n",
            "service_account: {client_id: x, secret: ''}\n    scheduler:\n      shared_reads: {life: 0}\n",
            "cluster daint: service_account",
        ),
        ("name: daint", "name: daint\n    probing: {interval_check: 5}", "cluster daint: probing"),
        ("auth:\n", "app_version: 2.x.x\nauth:\n", "app_version"),
        ("name: daint", "name: daint\n    servicesHealth: []", "cluster daint: services_health"),
    ],
)
def test_setting_without_effect_in_this_configuration_is_warned_about(
    read: Callable[[str], Settings], minimal: str, old: str, new: str, path: str
) -> None:
    assert old in minimal
    assert [line.partition(" has no effect")[0] for line in warnings(read(minimal.replace(old, new, 1)))] == [path]


def test_ignored_variable_is_warned_about(read: Callable[..., Settings], minimal: str) -> None:
    assert [line.partition(" has")[0] for line in warnings(read(minimal, {"FLAMECREST__APP_VERSION": "2"}))] == [
        "app_version"
    ]
