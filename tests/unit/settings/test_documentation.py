"""Every setting is documented, and docs/settings.md is generated from the descriptions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flamecrest.cli import settings_doc
from flamecrest.server.settings import Section, Settings, expected_field_value, expected_value, warnings

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def sections(section: type[Section] = Settings) -> Iterator[type[Section]]:
    yield section
    for name in section.model_fields:
        wanted = expected_field_value(section, name)
        while wanted.args and not wanted.variants and wanted.args[-1] is not Ellipsis and len(wanted.args) == 2:
            wanted = expected_value(wanted.args[1])
        if wanted.args and wanted.args[-1] is Ellipsis:
            wanted = expected_value(wanted.args[0])
        for variant in wanted.variants:
            yield from sections(variant)


ALL = sorted(set(sections()), key=lambda section: section.__name__)


def test_every_section_is_walked() -> None:
    everything = set(Section.__subclasses__()) | {
        below for found in Section.__subclasses__() for below in found.__subclasses__()
    }
    abstract = {found for found in everything if found.__subclasses__()}
    assert set(ALL) == {found for found in everything - abstract if found.__module__.startswith("flamecrest.")}


@pytest.mark.parametrize("section", ALL, ids=lambda section: section.__name__)
def test_every_setting_is_described(section: type[Section]) -> None:
    assert (section.__doc__ or "").strip().endswith(".")
    page = settings_doc.render()
    for name, info in section.model_fields.items():
        assert (info.description or "").rstrip(")").endswith("."), f"{section.__name__}.{name}: {info.description!r}"
        assert not info.is_required() or info.examples, f"{section.__name__}.{name} has no example"
        assert f"| `{name}` |" in page
    for key, why in section.IGNORED.items():
        assert why
        assert section.field_named(key) is None


@pytest.mark.parametrize("section", ALL, ids=lambda section: section.__name__)
def test_no_key_means_two_things(section: type[Section]) -> None:
    for older, meant in section.RENAMED.items():
        assert meant in section.model_fields
        assert older not in section.model_fields
        assert section.field_named(older) == meant


def test_the_page_is_current() -> None:
    assert PAGE.read_text("utf-8") == settings_doc.render(), "run: flamecrest settings-doc --write docs/settings.md"


def test_the_page_links_to_itself() -> None:
    page = settings_doc.render()
    anchors = re.findall(r'<a id="([^"]+)">', page)
    assert len(anchors) == len(set(anchors)) == len(ALL)
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= set(anchors)


def test_the_example_works(read: Callable[[str], Settings], secret_file: Callable[[str, str], str]) -> None:
    text = settings_doc.EXAMPLE
    assert f"```yaml\n{text}```" in settings_doc.render()
    text = text.replace("secret_file:/etc/flamecrest/keys/alice", secret_file("alice", "key"))
    assert warnings(read(text)) == []


def test_the_examples_of_variables_work(read: Callable[..., Settings], secret_file: Callable[[str, str], str]) -> None:
    block = re.search(r"```sh\n(.*?)```", settings_doc.render(), re.DOTALL)
    assert block is not None
    environ = {name: value.strip("'") for name, _, value in (line.partition("=") for line in block[1].splitlines())}
    assert len(environ) == 4
    text = settings_doc.EXAMPLE.replace("secret_file:/etc/flamecrest/keys/alice", secret_file("alice", "key"))
    settings = read(text, environ)
    assert settings.clusters[0].ssh.port == 2222
    assert settings.server.trusted_proxies == ("10.0.0.0/8",)
