"""The API reference of the documentation site shows every operation, parameter and model of the OpenAPI document."""

from __future__ import annotations

import pytest
from docs.hooks.api_reference import document, operations, pages

API = document()
PAGES = pages(API)


@pytest.mark.parametrize("operation", operations(API), ids=lambda one: f"{one.method} {one.path}")
def test_every_operation_has_a_section(operation) -> None:
    page = PAGES[f"{operation.page}.md"]
    assert page.count(f"{{: #{operation.anchor} }}") == 1
    section = page.split(f"{{: #{operation.anchor} }}")[1].split("\n## ")[0]
    assert f"`{operation.method} {operation.path}`" in section
    names = [one["name"] for one in operation.spec.get("parameters", ())]
    assert [name for name in names if name != "system_name" and f"| `{name}` |" not in section] == []
    assert f"({operation.page}.md#{operation.anchor})" in PAGES["index.md"]


@pytest.mark.parametrize("name", API["components"]["schemas"])
def test_every_model_has_a_section_with_its_fields(name: str) -> None:
    _, _, rest = PAGES["models.md"].partition(f"\n## {name} {{: #{name.lower()} }}\n")
    section = rest.split("\n## ")[0]
    assert section.strip()
    fields = API["components"]["schemas"][name].get("properties", {})
    assert [field for field in fields if f"| `{field}` |" not in section] == []
