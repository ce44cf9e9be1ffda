"""The examples that the pages fill in: each operation with a JSON body has one that its own handler accepts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

from flamecrest.server.app import routes
from flamecrest.server.http.jobs.specs import job_change, job_spec
from flamecrest.wire.compute import PostJobSubmitRequest
from flamecrest.wire.job_options import PatchJobRequest
from tests.openapi import openapi


def bodies() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and JSON body of the operations that have one."""
    for path, operations in openapi()["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is not None:
                yield method.upper(), path, body


def model_of(method: str, path: str) -> type[BaseModel]:
    """The model of the handler's body."""
    route = next(
        one
        for one in routes()
        if isinstance(one, APIRoute) and one.path_format == path and method in (one.methods or ()) and one.body_field
    )
    assert route.body_field is not None
    model = get_type_hints(route.endpoint)[route.body_field.name]
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return model


def test_there_are_bodies() -> None:
    assert len(list(bodies())) >= 30


@pytest.mark.parametrize(("method", "path", "body"), [pytest.param(*one, id=f"{one[0]} {one[1]}") for one in bodies()])
def test_the_example_is_accepted(method: str, path: str, body: dict[str, Any]) -> None:
    model = model_of(method, path)
    read = model.model_validate(body["example"])
    unknown = {name for name in body["example"] if name not in model.model_json_schema()["properties"]}
    assert unknown <= {"path"}, "the models of files ignore fields that they do not know"
    if isinstance(read, PostJobSubmitRequest):
        assert set(body["example"]["job"]) == {"name", "workingDirectory", "script"}
        assert job_spec(read.job).script == body["example"]["job"]["script"]
    if isinstance(read, PatchJobRequest):
        assert job_change(read).time_limit == 5400


def test_the_groups_begin_with_what_is_needed_first() -> None:
    assert [one["name"] for one in openapi()["tags"]] == [
        "status", "compute", "filesystem", "bulk", "uploads", "tokens",
    ]  # fmt: skip


def test_the_form_for_a_token_says_what_to_paste() -> None:
    assert "access token" in openapi()["components"]["securitySchemes"]["HTTPBearer"]["description"]
