"""Request bodies: the accepted spellings, and invalid bodies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from flamecrest.wire import compute, filesystem, operations, tokens, transfer
from flamecrest.wire.casing import WireModel

JOB = {"workingDirectory": "/home/u", "script": "#!/bin/sh\n"}


def wrong(model: type[WireModel], data: Any) -> list[tuple[Any, ...]]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(data)
    return [error["loc"] for error in caught.value.errors()]


@pytest.mark.parametrize("path", ["path", "sourcePath", "source_path"])
@pytest.mark.parametrize("target", ["targetPath", "target_path"])
@pytest.mark.parametrize("pattern", ["matchPattern", "match_pattern"])
def test_path_field_aliases(path: str, target: str, pattern: str) -> None:
    for model in (filesystem.PostCompressRequest, transfer.CompressRequest):
        body = model.model_validate({path: "/a", target: "/b", pattern: None, "dereference": "true"})
        assert (body.path, body.target_path, body.match_pattern, body.dereference) == ("/a", "/b", None, True)


@pytest.mark.parametrize("link", ["linkPath", "link_path"])
def test_link_field_aliases(link: str) -> None:
    assert filesystem.PostFileSymlinkRequest.model_validate({"path": "/a", link: "/b"}).link_path == "/b"


@pytest.mark.parametrize("method", ["transferMethod", "transfer_method"])
@pytest.mark.parametrize("size", ["fileSize", "file_size"])
@pytest.mark.parametrize("outer", ["transferDirectives", "transfer_directives"])
def test_directive_field_aliases(method: str, size: str, outer: str) -> None:
    body = transfer.PostFileUploadRequest.model_validate({"path": "/a", outer: {method: "s3", size: 42}})
    assert isinstance(body.transfer_directives, transfer.S3TransferRequest)
    assert body.transfer_directives.file_size == 42


@pytest.mark.parametrize("form", [{"A": "1=2", "B": ""}, ["A=1=2", "B="]])
@pytest.mark.parametrize("name", ["env", "environment"])
def test_env_formats(form: Any, name: str) -> None:
    job = compute.JobDescriptionModel.model_validate({**JOB, name: form})
    assert job.env == {"A": "1=2", "B": ""}


@pytest.mark.parametrize("directory", ["workingDirectory", "working_directory"])
@pytest.mark.parametrize("script", ["scriptPath", "script_path"])
def test_job_field_aliases(directory: str, script: str) -> None:
    job = compute.JobDescriptionModel.model_validate({directory: "/w", script: "/s"})
    assert (job.working_directory, job.script_path, job.script) == ("/w", "/s", None)


@given(
    st.one_of(
        st.none(),
        st.integers(),
        st.text(),
        st.lists(st.one_of(st.integers(), st.none(), st.text(st.characters(exclude_characters="="))), min_size=1),
        st.one_of(st.integers(), st.none(), st.lists(st.text())).map(lambda value: {"A": value}),
        st.sampled_from(["", "A B", "1A", "A=B", "A\n", "A\0", "\u00c9", "LD$"]).map(lambda name: {name: "text"}),
        st.just({"A": "secret\0"}),
    )
)
def test_invalid_env_gives_one_error_without_values(env: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        compute.JobDescriptionModel.model_validate({**JOB, "env": env})
    (error,) = caught.value.errors()
    assert error["loc"] == ("env",)
    assert "secret" not in error["msg"]


def test_repr_of_a_job_hides_env_and_script() -> None:
    job = compute.JobDescriptionModel.model_validate({**JOB, "env": {"KEY": "hunter2"}, "script": "#!/bin/sh\nhunter2"})
    assert "hunter2" not in repr(job)


@pytest.mark.parametrize("field", ["name", "account", "partition", "reservation", "constraints"])
@pytest.mark.parametrize("value", ["a\nb", "a\x1fb", "a\0b", "\x7f", "x" * 256, 5, ["a"], {"a": 1}, True])
def test_job_text_fields(field: str, value: Any) -> None:
    assert wrong(compute.JobDescriptionModel, {**JOB, field: value}) == [(field,)]


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"script": "x"}, ("workingDirectory",)),
        ({**JOB, "workingDirectory": "relative"}, ("workingDirectory",)),
        ({**JOB, "workingDirectory": "/a\0"}, ("workingDirectory",)),
        ({**JOB, "script_path": "relative"}, ("script_path",)),
        ({**JOB, "script": "a\0b"}, ("script",)),
        ({**JOB, "standardOutput": 5}, ("standardOutput",)),
        ({**JOB, "encoding": "percent", "standardOutput": "slurm-%j.out"}, ("standardOutput",)),
        ({**JOB, "encoding": "base64"}, ("encoding",)),
    ],
)
def test_error_names_the_invalid_field(data: Any, where: tuple[str, ...]) -> None:
    assert wrong(compute.JobDescriptionModel, data) == [where]


def test_percent_encoded_paths() -> None:
    body = filesystem.PostFileSymlinkRequest.model_validate(
        {"linkPath": "/l%25%FF", "path": "/t%00", "encoding": "percent"} | {"path": "/t%FE"}
    )
    assert (body.path, body.link_path) == ("/t\udcfe", "/l%\udcff")
    assert filesystem.PostMakeDirRequest.model_validate({"path": "/100%"}).path == "/100%"
    assert wrong(filesystem.PostMakeDirRequest, {"path": "/%00", "encoding": "percent"}) == [("path",)]


@pytest.mark.parametrize(
    "size", [-1, "-1", 2**63, 1.5, "many", float("nan"), float("inf"), [], "9" * 5000, True, "42", "1.0"]
)
def test_sizes(size: Any) -> None:
    data = {"path": "/a", "transferDirectives": {"transferMethod": "s3", "fileSize": size}}
    assert wrong(transfer.PostFileUploadRequest, data) == [("transferDirectives", "s3", "fileSize")]


@pytest.mark.parametrize("value", [True, False, "1", " 1", 1.5, "true"])
@pytest.mark.parametrize(
    ("model", "body", "name"),
    [
        (operations.OpsTouchRequest, {"path": "/a"}, "mtime"),
        (operations.OpsTruncateRequest, {"path": "/a"}, "size"),
        (tokens.TokenRequest, {"verbs": ["files:read"]}, "lifetime"),
        (tokens.TokenRequest, {"verbs": ["files:read"]}, "uses"),
    ],
)
def test_integers_are_no_other_values(model: type[WireModel], body: dict[str, Any], name: str, value: Any) -> None:
    model.model_validate({**body, name: 1})
    assert wrong(model, {**body, name: value}) == [(name,)]


@pytest.mark.parametrize("owner", [None, ""])
def test_null_and_empty_owner_mean_unchanged(owner: Any) -> None:
    body = filesystem.PutFileChownRequest.model_validate({"path": "/a", "owner": owner, "group": owner})
    assert (body.owner, body.group) == ("", "")


@pytest.mark.parametrize("command", ["", "  \n", None, "a\0b", 5])
def test_invalid_attach_commands(command: Any) -> None:
    assert wrong(compute.PostJobAttachRequest, {"command": command}) == [("command",)]
    assert wrong(compute.PostJobAttachRequest, {}) == [("command",)]


@given(st.recursive(st.one_of(st.none(), st.booleans(), st.floats(), st.text()), st.lists))
def test_arbitrary_documents_raise_validation_error(data: Any) -> None:
    for model in (compute.PostJobSubmitRequest, transfer.PostFileUploadRequest, filesystem.PutFileChmodRequest):
        with pytest.raises(ValidationError):
            TypeAdapter(model).validate_python(data)


def test_job_time_windows() -> None:
    assert [window.seconds for window in compute.JobsTimeWindow] == [3600, 28800, 86400, 259200, 604800]


def test_serialized_requests_match_the_api() -> None:
    body = filesystem.PostCompressRequest(path="/a", target_path="/b")
    assert body.model_dump(exclude_none=True) == {
        "sourcePath": "/a",
        "targetPath": "/b",
        "dereference": False,
        "compression": "gzip",
    }
    job = compute.JobDescriptionModel(working_directory="/w", script="#!/bin/sh", env={"A": "1"})
    assert job.model_dump(exclude_none=True) == {
        "workingDirectory": "/w",
        "script": "#!/bin/sh",
        "env": {"A": "1"},
    }
