"""Hostile values in every field of every operation: the error names the field, and nothing is changed.

Operations and fields come from the OpenAPI document, so a new endpoint is covered when it appears there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest

from tests.openapi import openapi

from . import hostile_answers as answers
from .conftest import Api
from .hostile_operations import Field, Ground, Operation, Raw, operations, resolved
from .hostile_values import legal, refused

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


OPERATIONS = operations(openapi())
# How many injections each field is given, where a request that is accepted starts a batch job or several programs.
DEAR = {"/transfer/": 2, "/compute/": 3}
NEVER_WORKS = {"/transfer/upload", "/transfer/download", "/attach", "/transfer/extract", "/ops/rm", "/{upload}"}
NEVER_WORKS |= {"/transfer/copy", "/{transfer_id}", "/{transfer_id}/retry", "/{token_id}"}
NEVER_WORKS |= {"/hold", "/release", "/requeue", "/suspend", "/resume", "/signal"}  # the job has ended
ONCE = ("/mkdir", "/symlink", "/ops/mv", "/ops/cp")  # the second time it is there

every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.id)
# 30 s of CPU time: runs once with the live tests; over the sandbox only on request.
once = pytest.mark.parametrize(
    "api",
    [pytest.param("sandbox", marks=pytest.mark.exhaustive), pytest.param("live", marks=pytest.mark.live)],
    indirect=True,
    scope="session",
)


@pytest.fixture(scope="module")
async def ground(api: Api) -> AsyncIterator[Ground]:
    """A folder with a file, a tree and an archive, and a job that has ended."""
    folder = f"{api.home}/hostile-{answers.canary()[6:]}"
    ops = f"/filesystem/{api.system}/ops"
    async with answers.client(api) as http:

        async def ok(answer: httpx.Response) -> Any:
            assert answer.is_success, answer.text
            return answer.json() if answer.content else None

        for path in (folder, f"{folder}/tree"):
            await ok(await http.post(f"{ops}/mkdir", json={"path": path}))
            for name in ("file", "movable"):
                await ok(
                    await http.post(f"{ops}/upload", params={"path": path}, files={"file": (name, b"text\n" * 99)})
                )
        tree = {"path": f"{folder}/tree", "targetPath": f"{folder}/tree.tar.gz"}
        await ok(await http.post(f"{ops}/compress", json=tree))
        older = frozenset(await answers.jobs(http, api))
        job = {"workingDirectory": folder, "script": "#!/bin/sh\n:\n", "account": api.account}
        begun = await ok(await http.post(f"/compute/{api.system}/jobs", json={"job": job}))
        made = Ground(api.system, folder, api.account, begun["jobId"], older)
        await answers.quiet(http, api, older)
        yield made
        await answers.quiet(http, api, older)
        await ok(await http.delete(f"{ops}/rm", params={"path": folder}))


Case = tuple[Field, Any, tuple[str, ...]]


def cases_of(operation: Operation, values: Any) -> list[Case]:
    return [
        (field, value, field.choice or operation.choices()[0])
        for field in operation.fields
        if field.name != "file"  # of a form; see test_hostile_forms.py
        for value in values(field)
    ]


def body_of(operation: Operation) -> dict[str, Any]:
    """The schema of a JSON body; empty without one."""
    described = openapi()["paths"][operation.path][operation.method.lower()].get("requestBody", {"content": {}})
    content = described["content"].get("application/json")
    return {} if content is None else resolved(openapi(), content["schema"])


def is_valid(field: Field, value: Any) -> bool:
    """Whether a value that is wrong elsewhere is valid for this field: seconds, a list that adds nothing."""
    return (field.name in {"timeLimit", "begin", "deadline"} and value == 5) or (
        field.name in {"dependencies", "native", "include", "exclude"} and value == []
    )


def items_refused(response: httpx.Response) -> bool:
    """Whether an operation on several things refuses each of them."""
    body = response.json() if response.headers.get("content-type") == "application/json" else {}
    return bool(body.get("results")) and all(
        400 <= one.get("status", 400) < 500 and "jobId" not in one for one in body["results"]
    )


async def test_openapi_document_is_served_by_the_gateway(http: httpx.AsyncClient) -> None:
    served = operations((await http.get("/openapi.json")).json())
    assert [one.id for one in served] == [one.id for one in OPERATIONS]
    assert len(served) >= 35


@once
@every_operation
async def test_invalid_values_are_refused(
    api: Api, ground: Ground, http: httpx.AsyncClient, operation: Operation
) -> None:
    away = f"/nowhere-{answers.canary()}/x"
    submits = operation.method != "GET" and any(part in operation.path for part in DEAR)

    async def submitted() -> set[str]:
        return set(await answers.jobs(http, api, ground.folder)) if submits else set()

    before, jobs = await answers.listing(http, api, ground.folder), await submitted()

    async def ask(case: Case) -> str | None:
        field, value, choice = case
        request = ground.request(operation, choice)
        request.put(field, value)
        response = await answers.fetch(http, request.build(http))
        if wrong := answers.wrong_with(api, response):
            return wrong + ": " + response.text[:300]
        large = len(str(value)) > 900_000
        if response.is_success and items_refused(response):
            return None
        if response.status_code != 400 and not (large and response.status_code == 413):
            return f"{response.status_code} {response.text[:300]}"
        if operation.method == "HEAD":
            return None  # it has no message
        expected = {answers.camel(field.name)} | ({"body"} if isinstance(value, Raw) or large else set())
        names = answers.named(response)
        # a wrong object is refused for its parts: `array.elements`
        fits = isinstance(value, dict) or all(expected & set(name.split(".")) for name in names)
        return None if names and fits else f"names {names}: {response.text[:300]}"

    cases = cases_of(operation, lambda field: refused(field, api.home.rpartition("/")[0], away))
    wanted = [one for one in cases if one[0].name != "system_name" and not is_valid(one[0], one[1])]
    number, wrong = await answers.ask_all(wanted, ask)
    assert not wrong, answers.summary(wrong)
    assert number > 0 or not any(one.place in {"query", "body"} for one in operation.fields)
    assert before == await answers.listing(http, api, ground.folder)
    assert not await submitted() - jobs


@every_operation
async def test_missing_fields_are_refused(
    api: Api, ground: Ground, http: httpx.AsyncClient, operation: Operation
) -> None:
    async def ask(field: Field) -> str | None:
        request = ground.request(operation, field.choice or operation.choices()[0])
        request.drop(field)
        response = await answers.fetch(http, request.build(http))
        if wrong := answers.wrong_with(api, response):
            return wrong
        names = {field.shown} if operation.method == "HEAD" else answers.named(response)
        return None if response.status_code == 400 and names == {field.shown} else f"names {names}: {response.text}"

    needed = [one for one in operation.fields if one.required and one.place in {"query", "body"} and one.name != "file"]
    _, wrong = await answers.ask_all(needed, ask)
    assert not wrong, answers.summary(wrong)


@pytest.mark.exhaustive
@every_operation
async def test_unknown_fields_are_ignored_or_refused_as_documented(
    api: Api, ground: Ground, http: httpx.AsyncClient, operation: Operation
) -> None:
    begun = []
    strict = body_of(operation).get("additionalProperties") is False
    for choice in operation.choices():
        request = ground.request(operation, choice)
        first = await answers.fetch(http, request.build(http))
        assert answers.wrong_with(api, first) is None, first.text
        known = operation.path.endswith(tuple(NEVER_WORKS)) or operation.method == "PATCH"
        assert first.is_success or known, first.text
        if operation.path.endswith(ONCE):
            continue
        request.query += [("unknown", "$(id)"), ("path ", "/"), ("\x00", "\x00"), ("", "")]
        if operation.media == "application/json":
            request.body |= {"unknown": [{"": "\x00"}], "__proto__": {"path": "/"}, "": 5, "$ref": "file:///etc/passwd"}
        again = await answers.fetch(http, request.build(http))
        assert answers.wrong_with(api, again) is None, again.text
        right = again.is_success if first.is_success else again.status_code == first.status_code
        assert again.status_code == 400 if strict else right, again.text
        begun += [first, again]
    if any("transferJob" in one.text for one in begun):
        await answers.quiet(http, api, ground.older)
        await answers.tidy(http, api, begun)


@every_operation
async def test_duplicate_parameter_is_refused(
    api: Api, ground: Ground, http: httpx.AsyncClient, operation: Operation
) -> None:
    request = ground.request(operation, operation.choices()[0])
    for field in operation.of("query"):
        for values in (("1", "1"), ("true", "false"), (ground.folder, "/")):
            twice = ground.request(operation)
            twice.query = [one for one in request.query if one[0] != field.name]
            twice.query += [(field.name, value) for value in values]
            response = await answers.fetch(http, twice.build(http))
            assert answers.wrong_with(api, response) is None
            assert response.status_code == 400, response.text
            assert operation.method == "HEAD" or answers.named(response) == {answers.camel(field.name)}, response.text


@pytest.mark.exhaustive
@every_operation
async def test_unusual_valid_values(api: Api, ground: Ground, http: httpx.AsyncClient, operation: Operation) -> None:
    """Any bytes are a valid file name, any line a job name: not found, refused by the scheduler, or accepted."""
    canary = answers.canary()
    begun: list[httpx.Response] = []
    most = next((number for part, number in DEAR.items() if part in operation.path), 99)

    async def ask(case: Case) -> str | None:
        field, value, choice = case
        request = ground.request(operation, choice)
        request.put(field, value)
        response = await answers.fetch(http, request.build(http))
        begun.append(response)
        wrong = answers.wrong_with(api, response)
        return None if wrong is None else f"{wrong}: {response.text[:300]}"

    cases = cases_of(operation, lambda field: legal(field, ground.folder, canary, most=most))
    _, wrong = await answers.ask_all(cases, ask)
    if most < 99 and operation.method != "GET":
        await answers.quiet(http, api, ground.older)
    await answers.tidy(http, api, begun)
    assert not wrong, answers.summary(wrong)
    await answers.no_canary(http, api, canary, ground.folder)


async def test_system_name_is_case_insensitive(api: Api, ground: Ground, http: httpx.AsyncClient) -> None:
    for operation in OPERATIONS:
        if operation.method == "GET" and "{system_name}" in operation.path and operation.path.startswith(("/s", "/f")):
            request = ground.request(operation)
            request.path["system_name"] = api.system.upper()
            response = await answers.fetch(http, request.build(http))
            assert response.is_success or "There is no such transfer" in response.text, response.text


async def test_invalid_percent_encoding(api: Api, ground: Ground, http: httpx.AsyncClient) -> None:
    for operation in OPERATIONS:
        if not any(field.name == "encoding" for field in operation.fields):
            continue
        for field in operation.of("body"):
            if field.name.lower().endswith("path"):
                for bad in ("%", "%zz", "%4", "%%41", "%00", "%\u0661\u0661"):
                    request = ground.request(operation, operation.choices()[0])
                    request.put(field, f"{ground.folder}/{bad}")
                    request.holder(field)["encoding"] = "percent"
                    response = await answers.fetch(http, request.build(http))
                    assert answers.wrong_with(api, response) is None, response.text
                    refused_well = items_refused(response) or answers.named(response) == {field.shown}
                    assert refused_well, (operation.id, bad, response.text)


async def test_no_secret_in_the_log(api: Api, http: httpx.AsyncClient) -> None:
    """Environment values, scripts and tokens are not logged. Runs last, because it reads the whole log."""
    secret = answers.canary()
    bodies: list[Any] = [
        {
            "job": {
                "workingDirectory": "/",
                "script": f"#!/bin/sh\n# {secret}\nexit",
                "env": {"A": secret},
                "account": secret,
            }
        },
        {"job": {"workingDirectory": "/", "script": secret, "env": {"A": [secret]}}},
        {"job": {"workingDirectory": "/", "script": {"a": secret}, "env": {f"{secret} ": secret}}},
        {"job": {"workingDirectory": [secret], "script": "#!/bin/sh", "env": f"A={secret}"}},
    ]
    for body in bodies[1:]:
        response = await http.post(f"/compute/{api.system}/jobs", json=body)
        assert response.status_code == 400
        assert secret not in response.text
    await http.post(f"/compute/{api.system}/jobs", json=bodies[0])
    await anyio.sleep(0)
    answers.no_secret_in_log(api, secret)
