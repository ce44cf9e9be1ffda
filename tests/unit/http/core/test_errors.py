"""Errors: the status table, the envelope, and no internal detail in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server import errors
from flamecrest.server.http.core.errors import STATUS, status_of
from tests.unit.http.local_files import LocalFiles
from tests.unit.http.world import World, fields, logged

if TYPE_CHECKING:
    from pathlib import Path

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.values import Stat

pytestmark = pytest.mark.anyio


class Failing(LocalFiles):
    """A disc that fails as it is told to."""

    error: Exception = errors.NotFound("nothing")

    async def stat(self, path: str, deadline: Deadline, *, follow: bool = False) -> Stat:  # noqa: ARG002
        raise self.error


def kinds(kind: type[errors.GatewayError] = errors.GatewayError) -> set[type[errors.GatewayError]]:
    found = set(kind.__subclasses__())
    return found | {one for below in found for one in kinds(below)}


async def ask(tmp_path: Path, error: Exception) -> tuple[Any, list[dict[str, Any]]]:
    world = World(str(tmp_path), files=Failing())
    assert isinstance(world.files, Failing)
    world.files.error = error
    with logged() as lines:
        async with world.client() as client:
            response = await client.get("/filesystem/toy/ops/stat", params={"path": str(tmp_path)})
            again = await client.get("/status/systems")
            assert again.status_code == 200
    return response, lines


def test_every_kind_has_a_status() -> None:
    ours = {kind for kind in kinds() if kind.__module__ == errors.__name__}
    assert set(STATUS) == ours
    assert len(STATUS) == 19


def test_subclass_has_the_status_of_its_base() -> None:
    class Gone(errors.NotFound):
        pass

    assert status_of(Gone("x")) == 404
    assert status_of(errors.GatewayError("x")) == 500


@pytest.mark.parametrize("kind", STATUS)
async def test_public_to_the_caller_detail_to_the_log(tmp_path: Path, kind: type[errors.GatewayError]) -> None:
    response, lines = await ask(tmp_path, kind("what happened", detail="only for us"))
    assert response.status_code == STATUS[kind]
    assert response.json()["message"] == "what happened"
    assert "only for us" not in response.text
    line = next(line for line in lines if line["route"].endswith("/stat"))
    assert (line["error"], line["detail"]) == (kind.__name__, "only for us")
    assert line["request_id"] == response.headers["x-request-id"]
    assert ("retry-after" in response.headers) == issubclass(kind, errors.Busy | errors.Unavailable)


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.5, "2"), (10, "10")])
async def test_retry_after_is_whole_seconds(tmp_path: Path, seconds: float, header: str) -> None:
    response, _ = await ask(tmp_path, errors.Unavailable("down", retry_after=seconds))
    assert response.headers["retry-after"] == header


async def test_fields_make_it_a_validation_error(tmp_path: Path) -> None:
    field = errors.Field("body", "mode", "is no mode")
    response, _ = await ask(tmp_path, errors.Invalid("no", fields=(field,) * 100))
    assert response.json()["errorType"] == "validation"
    assert fields(response) == [("body", "mode")] * 50


@pytest.mark.parametrize(
    "text", ["caf\u00e9", "\udcff\ud800", '"quoted" \\ </script>', "line\nline\x00", "x" * 100_000]
)
async def test_any_text_is_a_message(tmp_path: Path, text: str) -> None:
    response, _ = await ask(tmp_path, errors.NotFound(text))
    assert response.json()["message"] == text.replace("\udcff", "\ufffd").replace("\ud800", "\ufffd")


async def test_unexpected_error_is_logged_and_not_shown(tmp_path: Path) -> None:
    response, lines = await ask(tmp_path, RuntimeError("password hunter2 in /etc/secret"))
    assert response.status_code == 500
    assert "hunter2" not in response.text
    assert response.headers["x-request-id"] in response.json()["message"]
    (line,) = [line for line in lines if line["message"] == "unexpected error"]
    assert "RuntimeError: password hunter2" in line["exception"]
    assert line["request_id"] == response.headers["x-request-id"]


async def test_connection_is_usable_after_an_unexpected_error(tmp_path: Path) -> None:
    world = World(str(tmp_path), files=Failing())
    assert isinstance(world.files, Failing)
    world.files.error = ZeroDivisionError()
    token = b"Authorization: Bearer token-of-fireuser\r\n"
    one = b"GET /filesystem/toy/ops/stat?path=%b HTTP/1.1\r\nHost: x\r\n" % str(tmp_path).encode() + token
    last = b"GET /status/systems HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + token
    with logged():
        async with world.served() as served:
            answer = await served.raw(one + b"\r\n" + last + b"\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"500", b"200"]


async def test_errors_of_the_framework(tmp_path: Path) -> None:
    async with World(str(tmp_path)).client() as client:
        unknown = await client.get("/nope")
        assert (unknown.status_code, unknown.json()["message"]) == (404, "Not Found")
        wrong = await client.post("/status/systems")
        assert (wrong.status_code, wrong.json()["message"]) == (405, "Method Not Allowed")
        assert wrong.headers["allow"] == "GET, HEAD, OPTIONS"
