"""The recorded exchanges with a FirecREST v2 server (firecrest-v2/examples.json): send them again, compare answers.

What is compared: status, content type, the shape of the body (names and kinds of values, all the way down), the values
that a client can rely on, and what an error says. Where we answer better on purpose, it stands in BETTER with the
reason; nothing else may differ.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

_FOLDER = Path(__file__).parent / "firecrest-v2"

# Recorded on this system, for this user, whose folder is this.
SYSTEM, USER, HOME = "cluster-slurm-ssh", "fireuser", "/home/fireuser"

# What the recorded messages have to say in ours too: clients look for these words.
_MATTERS = re.compile(
    r"No such file or directory|File exists|Permission denied|Operation not permitted|cannot statx|Job not found"
)
# Values that have to be the same, not only alike, in objects that have one of the marks.
_MARKS = {"location", "contentType", "algorithm", "errorType"}
_SAME = _MARKS | {"name", "content", "startPosition", "endPosition"}


@dataclass(frozen=True)
class Better:
    """How our answer differs from the recorded one, and why."""

    why: str
    status: int | None = None
    field: str | None = None


BETTER = {
    "file.none": Better("a missing path is 404, not a type", status=404),
    "job.submit.noworkdir": Better(
        "the field that is missing, not the object it is missing in", field="workingDirectory"
    ),
}


def load() -> list[dict[str, Any]]:
    """All exchanges, in the order in which they were made."""
    exchanges: list[dict[str, Any]] = json.loads((_FOLDER / "examples.json").read_text())
    return exchanges


def openapi() -> dict[str, Any]:
    """FirecREST's schema."""
    document: dict[str, Any] = json.loads((_FOLDER / "openapi-v2.json").read_text())
    return document


async def send(client: httpx.AsyncClient, exchange: dict[str, Any], rename: Callable[[str], str]) -> httpx.Response:
    """Send an exchange's request; `rename` maps recorded texts (system, paths, job ids) to this world's."""
    request = json.loads(rename(json.dumps(exchange["request"])))
    headers = {"auth.none": {"Authorization": ""}, "auth.garbage": {"Authorization": "Bearer garbage"}}
    prepared = client.build_request(
        request["method"],
        request["path"],
        params=request.get("params"),
        json=request.get("json"),
        files={"file": ("hello.txt", b"hello, world!\n")} if "files" in request else None,
        headers=headers.get(exchange["case"]),
    )
    if exchange["case"] == "auth.none":
        del prepared.headers["Authorization"]
    return await client.send(prepared)


# Fields that FirecREST does not have, by where they are: of a system, of a job, and of states of jobs and steps.
_ADDED = {
    "body.systems[]": {"transferMethods"},
    "body.systems[].ssh": {"nodes"},
    "body.jobs[]": {
        "submitTime", "cpus", "memory", "gpus", "qos", "dependency", "comment", "standardOutput", "standardError",
        "usage", "array", "source",
    },
    "body.jobs[].status": {"stateHint"},
    "body.jobs[].tasks[].status": {"stateHint"},
}  # fmt: skip


def compare(exchange: dict[str, Any], response: httpx.Response, rename: Callable[[str], str]) -> None:
    """Fail unless the answer is as recorded, or better on purpose."""
    better = BETTER.get(exchange["case"], Better(""))
    answer = json.loads(rename(json.dumps(exchange["answer"])))
    assert response.status_code == (better.status or answer["status"]), response.text
    assert response.headers.get("content-type") == answer.get("type")
    assert response.headers["f7t-appversion"] == answer["headers"]["f7t-appversion"]
    assert ("f7t-authusername" in answer["headers"]) <= ("f7t-authusername" in response.headers)
    if answer.get("type") == "application/octet-stream":
        assert len(response.content) == answer["body"]["bytes"]
    elif answer["body"] is None:
        assert response.content == b""
    elif better.status is None:
        seen = response.json()
        if "message" in answer["body"]:
            assert set(_MATTERS.findall(answer["body"]["message"])) <= set(_MATTERS.findall(seen["message"]))
            fields = (answer["body"]["data"] or {}).get("fields", [])
            for field in fields if better.field else []:
                field["name"] = better.field
        _same_shape(answer["body"], seen, "body")
        if exchange["case"] in {"ls", "ls.hidden", "ls.file"}:  # recorded up to the sixth entry
            listed = [(one["name"], one["type"], one["linkTarget"]) for one in seen["output"]]
            assert listed[:6] == [(one["name"], one["type"], one["linkTarget"]) for one in answer["body"]["output"]]


def _same_shape(recorded: Any, seen: Any, where: str) -> None:
    if isinstance(recorded, dict):
        assert isinstance(seen, dict), where
        if not _is_map(where):
            assert set(recorded) == set(seen) - (_ADDED.get(where, set()) - set(recorded)), where
        for name in recorded.keys() & seen.keys():
            _same_shape(recorded[name], seen[name], f"{where}.{name}")
            if name in _SAME and recorded.keys() & _MARKS:
                assert recorded[name] == seen[name], f"{where}.{name}"
    elif isinstance(recorded, list):
        assert isinstance(seen, list), where
        if recorded and seen:
            for item in seen:
                _same_shape(recorded[0], item, f"{where}[]")
    elif recorded is not None and seen is not None:
        assert _kind(recorded) is _kind(seen), where


def _is_map(where: str) -> bool:
    return where.endswith("healthcheckRuns")


def _kind(value: Any) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)
