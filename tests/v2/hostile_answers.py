"""Checks of every response: complete, in the envelope, without a secret.

They also detect files that an injected command would have created.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx

if TYPE_CHECKING:
    from .conftest import Api

WORKERS = 8
REFUSALS = frozenset({400, 403, 404, 408, 413, 415})
# Additional statuses of some operations, by a part of their path: preconditions, ranges, tus.
MORE = {"/download": {406, 412, 416}, "/ops/upload": {412}, "/uploads": {409, 410, 412, 460}}
LONGEST = 20_000  # bytes of an error response
PATIENCE = 50.0  # seconds for a response
KEYS = {"errorType", "message", "causedBy", "data", "user"}
PRIVATE = ("PRIVATE KEY", "b3BlbnNzaC1rZXk", "Traceback", 'File "/')


def canary() -> str:
    """A name that no file has."""
    return f"pwned-{secrets.token_hex(6)}"


def client(api: Api) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {api.token}"}
    return httpx.AsyncClient(base_url=api.url, headers=headers, timeout=PATIENCE, trust_env=False, verify=False)


def wrong_with(api: Api, response: httpx.Response) -> str | None:
    """The defects of a response's form."""
    headers = response.headers
    if headers.get("F7T-AppVersion") != "2.5.7" or not headers.get("X-Request-ID"):
        return f"headers {dict(headers)}"
    if any(secret in response.text for secret in (api.token, api.secret, *PRIVATE)):
        return "a secret in the answer"
    if response.is_success:
        return None
    more = [status for part, some in MORE.items() if part in response.url.path for status in some]
    if response.status_code not in {*REFUSALS, *more}:
        return f"status {response.status_code}"
    if response.request.method == "HEAD":
        return None
    if headers.get("content-type") != "application/json" or len(response.content) > LONGEST:
        return f"{len(response.content)} bytes of {headers.get('content-type')}"
    body = response.json()
    if not set(body) >= KEYS or body["errorType"] not in {"error", "validation"} or not body["message"]:
        return "not the envelope"
    if body["message"] != "Not Found" and body["user"] != api.user:
        return f"the caller is not {body['user']}"
    if (body["errorType"] == "validation") != bool((body["data"] or {}).get("fields")):
        return "a validation error without its fields, or the other way round"
    return None


def named(response: httpx.Response) -> set[str]:
    """The fields that an error says are wrong, in camelCase: in its list, or in back quotes."""
    body = response.json()
    listed = {one["name"] for one in (body.get("data") or {}).get("fields", [])}
    quoted = set(re.findall(r"`(\w+)`", body.get("message", "")))
    return {camel(name) for name in listed or quoted}


def camel(name: str) -> str:
    """`source_path` as `sourcePath`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


async def fetch(http: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """The response; only the first chunk if it has no length and need not end."""
    answer = await http.send(request, stream=True)
    try:
        if "content-length" in answer.headers or answer.is_error:
            await answer.aread()
            return answer
        content = b""
        with anyio.move_on_after(1):
            async for piece in answer.aiter_raw():
                content += piece
        return httpx.Response(answer.status_code, headers=answer.headers, content=content, request=request)
    finally:
        await answer.aclose()


async def ask_all(
    cases: Iterable[Any], ask: Callable[[Any], Awaitable[str | None]], workers: int = WORKERS
) -> tuple[int, list[str]]:
    """Send all requests with limited concurrency; return the number of cases and their failures."""
    wrong: list[str] = []
    number = 0
    gate = anyio.Semaphore(workers)

    async def one(case: Any) -> None:
        async with gate:
            try:
                found = await ask(case)
            except httpx.TransportError as error:
                found = f"{type(error).__name__}: {error}"
        if found is not None:
            wrong.append(f"{shown(case)}: {found}")

    async with anyio.create_task_group() as group:
        for case in cases:
            number += 1
            group.start_soon(one, case)
    return number, wrong


def shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) < 160 else f"{text[:120]}... ({len(text)})"


def summary(wrong: list[str]) -> str:
    """For an assertion's message."""
    return "\n".join([f"{len(wrong)} wrong:", *wrong[:12]])


async def listing(http: httpx.AsyncClient, api: Api, path: str, *, deep: bool = True) -> dict[str, str]:
    """Everything under a folder of the cluster: names and sizes."""
    query: dict[str, str | bool] = {"path": path, "recursive": deep, "showHidden": True}
    answer = await http.get(f"/filesystem/{api.system}/ops/ls", params=query)
    assert answer.status_code == 200, answer.text
    return {entry["name"]: entry["size"] for entry in answer.json()["output"]}


async def jobs(http: httpx.AsyncClient, api: Api, folder: str = "") -> dict[str, str]:
    """The states of the caller's jobs; on a site that is not ours alone, of those that work in the folder."""
    answer = await http.get(f"/compute/{api.system}/jobs", params={"time_window": "1h"})
    assert answer.status_code == 200, answer.text
    mine = [job for job in answer.json()["jobs"] if not api.live or job["workingDirectory"].startswith(folder)]
    return {job["jobId"]: job["status"]["state"] for job in mine}


async def quiet(http: httpx.AsyncClient, api: Api, older: Collection[str] = ()) -> None:
    """Wait until no job of the caller runs or is pending, except those with an id in `older`."""
    with anyio.fail_after(60):
        while waiting := [
            job
            for job, state in (await jobs(http, api)).items()
            if job not in older and state in {"PENDING", "RUNNING"}
        ]:
            await anyio.sleep(0.3)
    assert not waiting


async def tidy(http: httpx.AsyncClient, api: Api, begun: list[httpx.Response]) -> None:
    """Remove the logs of the started transfer jobs: the home directory is shared."""
    for answer in begun:
        if answer.is_success and b"transferJob" in answer.content:
            for log in (answer.json()["transferJob"] or {"logs": {}})["logs"].values():
                await http.delete(f"/filesystem/{api.system}/ops/rm", params={"path": log})


async def no_canary(http: httpx.AsyncClient, api: Api, name: str, folder: str) -> None:
    """Fail if an injected command has run: in the home directory, in the folder, or on this machine."""
    places = [await listing(http, api, api.home, deep=False), await listing(http, api, folder)]
    assert not [path for names in places for path in names if path.rpartition("/")[2] == name]
    for place in (Path("/"), Path("/tmp"), Path.cwd(), Path.home()):
        assert not os.path.lexists(place / name), place


def no_secret_in_log(api: Api, *more: str) -> None:
    """Fail if the gateway's log holds a token, a key, another secret of the test, or an unexpected error."""
    text = api.log.read_text("utf-8", "replace")
    lines = text.rstrip("\n").split("\n")
    assert lines
    for secret in (api.token, api.secret, "PRIVATE KEY", "b3BlbnNzaC1rZXk", *more):
        assert secret not in text, f"{secret[:12]}... in the log"
    unexpected = [line for line in lines if '"exception"' in line or "Traceback" in line]
    unexpected += [line for line in lines if not line.startswith("flamecrest ") and not is_json(line)]
    assert not unexpected, "\n".join(unexpected[:10])


def is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
