"""Our OpenAPI document holds all of FirecREST's: every path, method, parameter, schema, property; it may hold more.

Descriptions, titles and defaults are free. `null` is free as well, in both directions: FirecREST declares fields
nullable that it refuses to be null (sourcePath) or never sends as null (servicesHealth).
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract import exchanges
from tests.openapi import openapi

THEIRS = exchanges.openapi()
SCHEMAS: dict[str, Any] = THEIRS["components"]["schemas"]
OPERATIONS = [(path, method) for path, operations in THEIRS["paths"].items() for method in operations]

WIDER_ENUMS = {"SchedulerType": {"local"}}  # a scheduler that FirecREST does not have
# FirecREST's pattern refuses array elements and PBS ids, which must be accepted.
WIDER_PATTERNS = {"job_id": "^[A-Za-z0-9][A-Za-z0-9_.\\-\\[\\],%+]{0,127}$"}


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    return openapi()


def kinds(schema: dict[str, Any]) -> set[str]:
    """The kinds of values that a schema allows, without null: types, and names of other schemas."""
    if "$ref" in schema:
        return {schema["$ref"]}
    found: set[str] = set()
    for part in schema.get("anyOf", []) + schema.get("oneOf", []):
        found |= kinds(part)
    if "type" in schema:
        found.add(schema["type"])
    if schema.get("type") == "array" and "items" in schema:
        found |= {f"of {kind}" for kind in kinds(schema["items"])}
    if isinstance(schema.get("additionalProperties"), dict):
        found |= {f"to {kind}" for kind in kinds(schema["additionalProperties"])}
    return found - {"null"}


def content(message: dict[str, Any]) -> dict[str, set[str]]:
    return {media: kinds(value["schema"]) for media, value in message.get("content", {}).items()}


def test_recorded_schema_is_complete() -> None:
    assert len(OPERATIONS) == 35
    assert len(SCHEMAS) > 90


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_operation(ours: dict[str, Any], path: str, method: str) -> None:
    theirs, mine = THEIRS["paths"][path][method], ours["paths"][path][method]
    assert set(theirs["tags"]) <= set(mine["tags"])
    have = {(one["name"], one["in"]): one for one in mine.get("parameters", [])}
    for parameter in theirs.get("parameters", []):
        same = have[parameter["name"], parameter["in"]]
        assert same.get("required", False) == parameter.get("required", False), parameter["name"]
        assert kinds(same["schema"]) == kinds(parameter["schema"]), parameter["name"]
        pattern = WIDER_PATTERNS.get(parameter["name"], parameter["schema"].get("pattern"))
        assert same["schema"].get("pattern") == pattern
    if "requestBody" in theirs:
        assert mine["requestBody"]["required"] == theirs["requestBody"]["required"]
        assert content(mine["requestBody"]) == content(theirs["requestBody"])
    for status, response in theirs["responses"].items():
        assert content(response).items() <= content(mine["responses"][status]).items(), status


def test_schemas(ours: dict[str, Any]) -> None:
    for name, theirs in SCHEMAS.items():
        mine = ours["components"]["schemas"][name]
        assert mine["type"] == theirs["type"], name
        assert set(mine.get("enum", [])) == set(theirs.get("enum", [])) | WIDER_ENUMS.get(name, set()), name
        assert set(mine.get("required", [])) == set(theirs.get("required", [])), name
        for field, schema in theirs.get("properties", {}).items():
            have = mine["properties"][field]
            assert kinds(have) == kinds(schema), (name, field)
            assert have.get("writeOnly") == schema.get("writeOnly"), (name, field)
            if "const" in schema:
                assert have.get("const") == schema["const"] or schema["const"] in have.get("enum", ()), (name, field)


def test_all_references_resolve(ours: dict[str, Any]) -> None:
    def references(part: Any) -> set[str]:
        match part:
            case {"$ref": str(reference)}:
                return {reference}
            case dict():
                return {one for value in part.values() for one in references(value)}
            case list():
                return {one for value in part for one in references(value)}
            case _:
                return set()

    schemas = {f"#/components/schemas/{name}" for name in ours["components"]["schemas"]}
    assert references(ours) <= schemas


def test_all_operations_but_liveness_need_a_token(ours: dict[str, Any]) -> None:
    assert ours["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    without = [path for path, operations in ours["paths"].items() for one in operations.values() if not one["security"]]
    assert without == ["/status/liveness/"]


def test_operation_ids_are_unique(ours: dict[str, Any]) -> None:
    ids = [one["operationId"] for operations in ours["paths"].values() for one in operations.values()]
    assert len(ids) == len(set(ids))
