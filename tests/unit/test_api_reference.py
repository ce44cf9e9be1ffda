"""The API reference of the documentation site shows every operation, parameter and model of the OpenAPI document."""

from __future__ import annotations

from docs.hooks.api_reference import operations, pages

from tests.openapi import openapi

API = openapi()
PAGES = pages(API)


def test_every_operation_has_a_section() -> None:
    for operation in operations(API):
        page = PAGES[f"{operation.page}.md"]
        assert page.count(f"{{: #{operation.anchor} }}") == 1, operation
        section = page.split(f"{{: #{operation.anchor} }}")[1].split("\n## ")[0]
        assert f"`{operation.method} {operation.path}`" in section
        names = [one["name"] for one in operation.spec.get("parameters", ())]
        assert [name for name in names if name != "system_name" and f"| `{name}` |" not in section] == [], operation
        assert f"({operation.page}.md#{operation.anchor})" in PAGES["index.md"]


def test_every_operation_and_parameter_is_described() -> None:
    groups = {group["name"] for group in API["tags"]}
    for operation in operations(API):
        spec = operation.spec
        assert set(spec["tags"]) <= groups
        assert spec["description"].replace("`", "").startswith(spec["summary"]), operation
        assert [one["name"] for one in spec.get("parameters", ()) if not one.get("description")] == [], operation


def test_every_model_has_a_section_with_its_fields() -> None:
    for name, schema in API["components"]["schemas"].items():
        _, _, rest = PAGES["models.md"].partition(f"\n## {name} {{: #{name.lower()} }}\n")
        section = rest.split("\n## ")[0]
        assert section.strip(), name
        assert [field for field in schema.get("properties", {}) if f"| `{field}` |" not in section] == [], name
