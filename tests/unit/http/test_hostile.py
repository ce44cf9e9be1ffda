"""Invalid values in every field of every operation: the error names the field, and nothing is changed.

The operations and their fields are read from the OpenAPI document, so new ones are covered.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.http.core.errors import FORMS
from tests.openapi import openapi

from .world import World, fields, raw_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.anyio

NEVER_RIGHT = [5, -1, 1.5, 2**80, [], ["a"], {}, {"a": {"b": []}}, [[[[]]]], "\0"]  # for a field of any type we have
SOMETIMES_RIGHT = [None, True, "", "x" * 10_000, "\x1b[31m", "true", "\u202e"]
RIGHT_AFTER_ALL = [
    ("mtime", 5),
    ("size", 5),
    ("priority", 5),
    ("timeLimit", 5),
    ("begin", 5),
    ("dependencies", []),
    ("jobIds", ["a"]),
    ("include", []),
    ("exclude", []),
    ("include", ["a"]),
    ("exclude", ["a"]),
]
OF_TOKENS = [("clusters", []), ("clusters", ["a"]), ("paths", []), ("jobIds", []), ("lifetime", 5), ("uses", 5)]
TEXTS = [
    "",
    "\0",
    "x" * 10_000,
    "\x1b\r\n",
    "maybe",
    "-1",
    "0",
    "1e400",
    "NaN",
    "9" * 4000,
    "null",
    "[]",
    "\u202e",
    "true",
]
BODY = {
    "path": "{root}/x",
    "targetPath": "{root}/y",
    "linkPath": "{root}/y",
    "mode": "700",
    "paths": ["{root}/x"],
    "items": [{"path": "{root}/x", "mode": "700"}],
    "command": "true",
    "size": 5,
    "verbs": ["status"],
    "job": {"workingDirectory": "/", "script": "#!/bin/sh"},
    "transferDirectives": {"transferMethod": "s3"},
}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path.replace("{system_name}", "toy").replace("{job_id}", "1"), operation


def properties(document: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
    return list(document["components"]["schemas"][schema]["properties"])


def prepared(root: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(json.dumps(BODY).replace("{root}", root))
    return body


def named(response: httpx.Response, name: str) -> bool:
    """Whether an error names the field, in its list of fields or in its message."""
    body = response.json()
    listed = [one["name"] for one in (body["data"] or {}).get("fields", [])]
    return name in listed or f"`{name}`" in body["message"] or name in body["message"]


async def test_every_query_parameter(client: httpx.AsyncClient, world: World) -> None:
    document = openapi()
    asked = 0
    for method, path, operation in operations(document):
        for parameter in operation.get("parameters", []):
            if parameter["in"] != "query":
                continue
            for text in TEXTS:
                query = {"path": f"{world.root}/none"} | {parameter["name"]: text}
                response = await client.request(method, path, params=query, headers={"Tus-Resumable": "1.0.0"})
                asked += 1
                assert response.status_code < 500, (path, query, response.text)
                assert response.status_code in {200, 201, 204, 400, 404, 413}, (path, query, response.text)
                assert "match pattern" not in response.text, (path, query, response.text)
    assert asked > 400


async def test_every_field_of_every_body(client: httpx.AsyncClient, world: World) -> None:
    document = openapi()
    asked = 0
    for method, path, operation in operations(document):
        if "application/json" not in operation.get("requestBody", {}).get("content", {}):
            continue
        names = properties(document, operation)
        for name in names:
            for value in NEVER_RIGHT + SOMETIMES_RIGHT:
                body = {one: value for one, value in prepared(world.root).items() if one in names}
                if name == "sourcePath":
                    body.pop("path", None)
                response = await client.request(method, path, json=body | {name: value})
                asked += 1
                assert response.status_code in {200, 201, 204, 400, 404}, (path, name, value, response.text)
                assert "match pattern" not in response.text, (path, name, value, response.text)
                right = RIGHT_AFTER_ALL + (OF_TOKENS if path == "/tokens" else [])
                if value in NEVER_RIGHT and (name, value) not in right:
                    assert response.status_code == 400, (path, name, value, response.text)
                    assert response.json()["data"] is None or fields(response)[0][0] == "body"
                    inner = name in {"job", "transferDirectives", "thenSubmit"}
                    assert inner or named(response, name), (path, name, value, response.text)
    assert asked > 800


def patterns(schema: Any) -> bool:
    """Whether a schema, or one that it has for its items or variants, has a pattern."""
    inner = [*([schema["items"]] if "items" in schema else []), *schema.get("anyOf", [])]
    return "pattern" in schema or any(map(patterns, inner))


def test_every_pattern_is_explained_in_words() -> None:
    document = openapi()
    found = {
        parameter["name"]
        for _, _, operation in operations(document)
        for parameter in operation.get("parameters", [])
        if parameter["in"] in {"path", "query"} and patterns(parameter["schema"])
    }
    schemas = document["components"]["schemas"].values()
    found |= {name for one in schemas for name, schema in one.get("properties", {}).items() if patterns(schema)}
    assert {"sort", "job_id", "signal", "jobIds"} <= found
    assert found <= set(FORMS)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("/compute/toy/jobs?sort=size", "`sort`: must be submit, start, end, "),
        ("/compute/toy/jobs/%24x", "`job_id`: must be the id of a job, such as "),
        ("/filesystem/toy/ops/ls?path=/&type=x", "`type`: must be one or more of the letters "),
    ],
)
async def test_a_value_of_another_form_is_explained(client: httpx.AsyncClient, query: str, said: str) -> None:
    response = await client.get(query)
    assert response.status_code == 400
    assert said in response.json()["message"]


async def test_ids_of_another_form_are_explained(client: httpx.AsyncClient) -> None:
    response = await client.post("/compute/toy/bulk/status", json={"jobIds": ["1", "-1"]})
    assert response.status_code == 400
    assert "must be ids of jobs" in response.json()["message"]


@pytest.mark.parametrize("path", ["/filesystem/toy/ops/mkdir", "/compute/toy/jobs", "/filesystem/toy/transfer/cp"])
@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"null", b"[]", b"5", b'"x"', b"NaN", b'{"path": NaN}', b"\xff\xfe", b'{"path": "\xff"}',
     b'{"path":"\\ud800"}',
     b"[" * 100_000, b'{"a":' * 100_000, b"\x00", b"\xef\xbb\xbf{}", b"{}{}", b'{"path":"a"'],
)  # fmt: skip
async def test_invalid_json_is_refused(client: httpx.AsyncClient, world: World, path: str, raw: bytes) -> None:
    response = await client.post(path, content=raw, headers={"content-type": "application/json"})
    assert {location for location, _ in fields(response)} == {"body"}
    assert raw_names(world.root) == set()


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json", "\u00ff"]
)
async def test_non_json_content_type_is_refused(client: httpx.AsyncClient, world: World, kind: str) -> None:
    headers = [(b"content-type", kind.encode("latin-1"))]
    body = json.dumps(prepared(world.root)).encode()
    response = await client.post("/filesystem/toy/ops/mkdir", content=body, headers=headers)
    assert fields(response) == [("header", "content-type")]


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"]
)
async def test_json_content_types_are_accepted(client: httpx.AsyncClient, world: World, kind: str) -> None:
    body = json.dumps(prepared(world.root)).encode()
    response = await client.post("/filesystem/toy/ops/mkdir", content=body, headers={"content-type": kind})
    assert response.status_code == 201


async def test_json_body_over_the_limit_gives_413(client: httpx.AsyncClient, world: World) -> None:
    large = json.dumps(prepared(world.root) | {"more": "x" * 10_000_000}).encode()

    async def without_length():
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    for content in (large, without_length()):
        response = await client.post(
            "/filesystem/toy/ops/mkdir", content=content, headers={"content-type": "application/json"}
        )
        assert response.status_code == 413
    assert raw_names(world.root) == set()


async def test_errors_do_not_echo_request_values(client: httpx.AsyncClient, world: World) -> None:
    """An invalid value may be a secret sent in the wrong field."""
    body = {
        "job": {
            "workingDirectory": ["hunter2"],
            "env": {"hunter2 ": "hunter2"},
            "script": {"hunter2": 1},
            "name": "hunter2\n",
        }
    }
    response = await client.post("/compute/toy/jobs", json=body)
    assert response.status_code == 400
    assert "hunter2" not in response.text
    response = await client.get("/filesystem/toy/ops/ls", params={"path": world.root, "recursive": "hunter2"})
    assert "hunter2" not in response.text


async def test_error_list_is_bounded(client: httpx.AsyncClient) -> None:
    response = await client.post("/compute/toy/jobs", json={"job": {"env": ["\0"] * 100_000, "workingDirectory": 1}})
    assert len(response.content) < 10_000


@pytest.mark.parametrize(
    "request_line",
    [b"GET /%ff%fe HTTP/1.1", b"GET /filesystem/%ff/ops/ls?path=%ff HTTP/1.1", b"GET /compute/toy/jobs/%2e%2e HTTP/1.1",
     b"GET /filesystem/toy/ops/stat?&&=&=%&path HTTP/1.1", b"DELETE /status/systems HTTP/1.1",
     b"GET //status//systems HTTP/1.1",
     b"GET /filesystem/toy/ops/stat?path=%zz HTTP/1.1", b"GET /" + b"a" * 30_000 + b" HTTP/1.1"],
)  # fmt: skip
async def test_malformed_request_lines(tmp_path: Path, request_line: bytes) -> None:
    async with World(str(tmp_path)).served() as served:
        answer = await served.raw(
            request_line + b"\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer token-of-fireuser\r\n\r\n"
        )
    assert answer.startswith(b"HTTP/1.1 4")
