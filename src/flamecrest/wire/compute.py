"""Messages of `/compute`: jobs as submitted and as shown."""

import re
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, AliasChoices, Field, PlainValidator, StringConstraints
from pydantic_core import PydanticCustomError

from .casing import WireModel
from .job_options import JobOptions
from .text import AbsolutePath, Encoding, Path, Text, Word

SCRIPT_LIMIT: Final = 16 * 1024 * 1024  # bytes of a submission; job scripts may contain data
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class JobsTimeWindow(StrEnum):
    """How far back a list of jobs reaches."""

    HOUR = "1h"
    SHIFT = "8h"
    DAY = "24h"
    THREE_DAYS = "3d"
    WEEK = "7d"

    @property
    def seconds(self) -> int:
        """The length of the window."""
        return int(self[:-1]) * (86400 if self[-1] == "d" else 3600)


def _read_env(value: Any) -> dict[str, str]:
    """Read variables given as an object or as a list of `NAME=value`. Errors contain no values."""
    pairs: list[tuple[Any, Any]]
    match value:
        case dict():
            pairs = list(value.items())
        case list() if all(isinstance(item, str) and "=" in item for item in value):
            pairs = [tuple(item.split("=", 1)) for item in value]
        case _:
            raise PydanticCustomError("env_type", "must be an object of texts, or a list of NAME=value")
    for name, text in pairs:
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise PydanticCustomError("env_name", "names must be letters, digits and _, not starting with a digit")
        if not isinstance(text, str) or "\0" in text:
            raise PydanticCustomError("env_value", "values must be text without NUL bytes")
    return dict(pairs)


Environment = Annotated[dict[str, str], PlainValidator(_read_env, json_schema_input_type=dict[str, str] | list[str])]


class JobDescriptionModel(JobOptions):
    """A job to submit: exactly one of `script` and `script_path`, where and how it runs."""

    encoding: Encoding | None = Field(default=None, description="`percent`: paths are percent-encoded bytes.")
    name: Word | None = Field(default=None, description="Name of the job")
    account: Word | None = Field(default=None, description="Account to charge")
    partition: Word | None = Field(default=None, description="Partition or queue")
    reservation: Word | None = Field(default=None, description="Reservation to run in")
    constraints: Word | None = Field(default=None, description="Features that nodes must have")
    working_directory: AbsolutePath = Field(description="Where the job runs")
    standard_input: Path | None = Field(default=None, description="File for standard input")
    standard_output: Path | None = Field(default=None, description="File for standard output")
    standard_error: Path | None = Field(default=None, description="File for standard error")
    env: Environment = Field(
        default={"F7T_version": "v2.0.0"},
        validation_alias=AliasChoices("env", "environment"),
        serialization_alias="env",
        repr=False,
        description="Environment variables: an object, or a list of NAME=value",
    )
    script: Text | None = Field(default=None, repr=False, description="The job script itself")
    script_path: AbsolutePath | None = Field(default=None, description="A job script on the system")


class PostJobSubmitRequest(WireModel):
    """A job to submit."""

    job: JobDescriptionModel


class PostJobSubmissionResponse(WireModel):
    """The submitted job."""

    job_id: str | None = None


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be empty")
    return text


class PostJobAttachRequest(WireModel):
    """A command to run inside a running job."""

    command: Annotated[Text, StringConstraints(max_length=65536), AfterValidator(_not_blank)] = Field(
        default="", validate_default=True
    )


class JobStatus(WireModel):
    """The state of a job, without the scheduler's suffixes, and how the job ended."""

    state: str
    state_reason: str | None = None
    state_hint: str | None = Field(default=None, description="What to do about the reason, in plain words")
    exit_code: int | None = None
    interrupt_signal: int | None = None


class JobTime(WireModel):
    """Durations in seconds; `start` and `end` in seconds since the epoch."""

    elapsed: int | None = None
    start: int | None = None
    end: int | None = None
    suspended: int | None = None
    limit: int | None = None


class JobTask(WireModel):
    """A step of a job."""

    id: str
    name: str
    status: JobStatus
    time: JobTime


class JobUsage(WireModel):
    """What an ended job has used, where the scheduler's history has it."""

    cpu_seconds: float | None = None
    max_memory: int | None = Field(default=None, description="The most memory on one node, in MiB")
    cpu_efficiency: float | None = Field(default=None, description="CPU time used of that allocated: 0 to 1")
    memory_efficiency: float | None = Field(default=None, description="`maxMemory` of the memory of one node: 0 to 1")


class JobArray(WireModel):
    """Which part of a job array a job is."""

    job_id: str = Field(description="The id of the whole array")
    element: int | None = None
    elements: str | None = Field(default=None, description="The elements that wait, if it is not a single one: `3-9`")
    max_running: int | None = Field(default=None, description="How many elements may run at once")


class JobModel(WireModel):
    """A job."""

    job_id: str
    name: str
    status: JobStatus
    tasks: list[JobTask] | None = None
    time: JobTime
    account: str | None = None
    allocation_nodes: int
    cluster: str
    group: str | None = None
    nodes: str
    partition: str
    kill_request_user: str | None = None
    user: str | None
    working_directory: str
    priority: int | None = None
    submit_time: int | None = Field(default=None, description="Seconds since the epoch")
    cpus: int | None = None
    memory: int | None = Field(default=None, description="MiB of all nodes")
    gpus: int | None = None
    qos: str | None = None
    dependency: str | None = Field(default=None, description="Unfulfilled conditions, as the scheduler writes them")
    comment: str | None = None
    standard_output: str | None = None
    standard_error: str | None = None
    usage: JobUsage | None = None
    array: JobArray | None = None
    source: Literal["live", "history"] = Field(
        default="live", description="Whether the state is that of the queue or of the accounting database"
    )


class GetJobResponse(WireModel):
    """Jobs."""

    jobs: list[JobModel] | None = None
    next_cursor: str | None = Field(default=None, description="With `limit`: the cursor of the next page, if any")


class JobMetadataModel(WireModel):
    """Script and standard files of a job."""

    job_id: str
    script: str | None = None
    standard_input: str | None = None
    standard_output: str | None = None
    standard_error: str | None = None


class GetJobMetadataResponse(WireModel):
    """Scripts and standard files of jobs."""

    jobs: list[JobMetadataModel] | None = None
