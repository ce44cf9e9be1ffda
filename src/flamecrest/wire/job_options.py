"""Messages about how a job runs: resources, arrays, dependencies, signals and mails of a typed job."""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from .casing import WireModel
from .text import Word
from .units import Duration, Size, Time

_MAX_COUNT: Final = 2**31 - 1
_MAX_INDEX: Final = 4_000_001  # Slurm's largest MaxArraySize
_PART: Final = re.compile(r"([0-9]{1,7})(?:-([0-9]{1,7})(?::([0-9]{1,7}))?)?", re.ASCII)
_SIGNAL: Final = r"^(?:SIG)?(?:[A-Z][A-Z0-9]{1,9}|[1-9][0-9]?)$"

Count = Annotated[int, Field(strict=True, ge=1, le=_MAX_COUNT)]
GpuCount = Annotated[int, Field(strict=True, ge=0, le=_MAX_COUNT)]
Priority = Annotated[int, Field(strict=True, ge=1, le=2**32 - 3)]
JobReference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-\[\]+]{0,127}$")]
NonEmpty = Annotated[Word, StringConstraints(min_length=1)]
Flag = Annotated[bool, Field(strict=True)]
SignalName = Annotated[str, StringConstraints(pattern=_SIGNAL)]
OptionText = Annotated[str, StringConstraints(min_length=2, max_length=4096)]


class StrictWireModel(WireModel):
    """A message whose unknown fields are refused: none is dropped without a word."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


def similar_field(name: str, models: Iterable[type[BaseModel]]) -> str | None:
    """The field of one of the models that an unknown one is probably meant to be."""
    known = {to_camel(field) for model in models for field in model.model_fields}
    near = difflib.get_close_matches(to_camel(name), sorted(known), 1, 0.7)
    return near[0] if near else None


def models_at(model: type[BaseModel], place: Sequence[str | int]) -> set[type[BaseModel]]:
    """The models that a message may have at a place inside (`("job", "dependencies", 0)`)."""
    found = {model}
    for step in place:
        if isinstance(step, str):  # what names no field is a variant of a union
            hints = [
                info.annotation
                for one in found
                for field, info in one.model_fields.items()
                if step in {field, to_camel(field), info.alias}
            ]
            found = _models_in(hints) if hints else found
    return found


def _models_in(hints: Iterable[Any]) -> set[type[BaseModel]]:
    found = set[type[BaseModel]]()
    for hint in hints:
        if isinstance(hint, type) and issubclass(hint, BaseModel):
            found.add(hint)
        else:
            found |= _models_in(get_args(hint))
    return found


class ResourcesModel(StrictWireModel):
    """What a job needs. What is not given is left to the script and to the scheduler."""

    nodes: Count | None = Field(default=None, description="Number of nodes")
    tasks: Count | None = Field(default=None, description="Number of tasks (processes)")
    tasks_per_node: Count | None = Field(default=None, description="Tasks on each node")
    cpus_per_task: Count | None = Field(default=None, description="CPUs of each task")
    memory: Size | None = Field(default=None, description="Memory of each node, with a unit: `4GiB`")
    memory_per_cpu: Size | None = Field(default=None, description="Memory of each CPU; instead of `memory`")
    gpus: GpuCount | None = Field(default=None, description="Number of GPUs of the whole job")
    gpus_per_node: GpuCount | None = Field(default=None, description="GPUs of each node")
    gpu_type: NonEmpty | None = Field(default=None, description="Type of the GPUs")
    exclusive: Flag | None = Field(default=None, description="Whether the nodes are not shared with other jobs")
    features: NonEmpty | None = Field(default=None, description="Features of the nodes, as the scheduler writes them")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.memory is not None and self.memory_per_cpu is not None:
            raise PydanticCustomError("contradiction", "`memory` and `memoryPerCpu` contradict each other: give one")
        if self.gpu_type is not None and self.gpus is None and self.gpus_per_node is None:
            raise PydanticCustomError("contradiction", "`gpuType` needs `gpus` or `gpusPerNode`")
        return self


def _read_array(value: str) -> dict[str, Any]:
    """Read `0-15%4` as an object."""
    elements, percent, most = value.partition("%")
    if not percent:
        return {"elements": elements}
    return {"elements": elements, "maxRunning": int(most) if re.fullmatch(r"[0-9]{1,9}", most, re.ASCII) else most}


def _check_elements(text: str) -> str:
    for part in text.split(","):
        found = _PART.fullmatch(part)
        if found is None:
            raise PydanticCustomError("array", "must be numbers and ranges such as `0-15`, `1,3` or `0-100:10`")
        first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
        if first > last or step < 1:
            raise PydanticCustomError("array_range", "a range must go upwards, in steps of at least 1")
        if last >= _MAX_INDEX:
            raise PydanticCustomError("array_index", "numbers must be below {limit}", {"limit": _MAX_INDEX})
    return text


class ArrayModel(StrictWireModel):
    """The elements of a job array."""

    elements: Annotated[str, StringConstraints(max_length=4096)] = Field(
        description="`0-15`, `1,3,5-9:2`", examples=["0-15"]
    )
    max_running: Count | None = Field(default=None, description="How many elements may run at once")

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_elements(self.elements)
        return self


def _read_dependency(value: str) -> dict[str, Any]:
    """Read `afterok:123:124` as an object."""
    kind, *ids = value.split(":")
    return {"kind": kind, "jobIds": ids}


class DependencyModel(StrictWireModel):
    """A condition for the start of a job."""

    kind: Literal["after", "afterok", "afternotok", "afterany", "singleton"] = Field(
        description="`after`: they have started; `singleton`: no other job of the same name is left"
    )
    job_ids: Annotated[list[JobReference], Field(max_length=1000)] = Field(
        default=[], description="The jobs; none for `singleton`", examples=[["4711"]]
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.kind == "singleton") == bool(self.job_ids):
            rule = "names no jobs" if self.job_ids else "needs `jobIds`"
            raise PydanticCustomError("dependency", "`{kind}` {rule}", {"kind": self.kind, "rule": rule})
        return self


def _read_signal(value: str) -> dict[str, Any]:
    """Read `USR1@60` as an object."""
    name, at, seconds = value.partition("@")
    if not at:
        return {"name": name}
    return {"name": name, "beforeEnd": int(seconds) if re.fullmatch(r"[0-9]{1,9}", seconds, re.ASCII) else seconds}


class SignalModel(StrictWireModel):
    """A signal before the time limit of a job."""

    name: SignalName = Field(description="Name of the signal", examples=["USR1"])
    before_end: Duration = Field(default=60, description="How long before the end, at most 18 hours")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.before_end > 65535:  # Slurm has 16 bits for it
            raise PydanticCustomError("signal_time", "`beforeEnd` must be at most 65535 seconds")
        return self


class MailModel(StrictWireModel):
    """Mails about a job."""

    events: Annotated[list[Literal["begin", "end", "fail", "requeue", "all"]], Field(min_length=1, max_length=5)] = (
        Field(description="What is reported", examples=[["end", "fail"]])
    )
    address: (
        Annotated[str, StringConstraints(pattern=r"^[^\s,;@\x00-\x20-][^\s,;@]{0,63}(?:@[^\s,;@]{1,255})?$")] | None
    ) = Field(default=None, description="The address; without it the user's", examples=["a@example.org"])


def _short(read: Callable[[str], dict[str, Any]], model: Any) -> WrapValidator:
    """Accept a text as well, which `read` makes an object of. An error about it names the field, not its parts."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if not isinstance(value, str):
            return handler(value)
        try:
            return handler(read(value))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise PydanticCustomError("short", "{reason}", {"reason": first["msg"]}) from None

    return WrapValidator(validate, json_schema_input_type=model | str)


ArrayField = Annotated[ArrayModel, _short(_read_array, ArrayModel), Field(examples=["0-15%4"])]
DependencyField = Annotated[DependencyModel, _short(_read_dependency, DependencyModel)]
DependencyFields = Annotated[list[DependencyField], Field(max_length=100, examples=[["afterok:4711"]])]
SignalField = Annotated[SignalModel, _short(_read_signal, SignalModel), Field(examples=["USR1@60"])]


class JobOptions(StrictWireModel):
    """The fields of a job to submit beside those of FirecREST."""

    resources: ResourcesModel | None = Field(default=None, description="What the job needs")
    time_limit: Duration | None = Field(default=None, description="How long the job may run: `1h30m`")
    qos: Word | None = Field(default=None, description="Quality of service")
    priority: Priority | None = Field(default=None, description="Priority")
    array: ArrayField | None = Field(default=None, description="A job array: `0-15%4`, or an object")
    dependencies: DependencyFields | None = Field(default=None, description="Conditions for its start, all needed")
    hold: Flag | None = Field(default=None, description="Whether the job waits until it is released")
    begin: Time | None = Field(default=None, description="When it may start at the earliest")
    deadline: Time | None = Field(default=None, description="When it must have ended")
    requeue: Flag | None = Field(default=None, description="Whether it starts again after the failure of a node")
    signal: SignalField | None = Field(default=None, description="A signal before the time limit: `USR1@60`")
    mail: MailModel | None = Field(default=None, description="Mails about the job")
    comment: Word | None = Field(default=None, description="A comment")
    licenses: Word | None = Field(default=None, description="Licences, as the scheduler writes them")
    container: Word | None = Field(default=None, description="OCI bundle to run in, where the scheduler has it")
    native: Annotated[list[OptionText], Field(max_length=100)] | None = Field(
        default=None,
        description="Options of the scheduler's own submission program, each in one text",
        examples=[["--spread-job", "--core-spec=2"]],
    )


class PatchJobRequest(StrictWireModel):
    """The fields of a job to change; those that are missing or null stay as they are."""

    name: NonEmpty | None = Field(default=None, description="Name of the job")
    account: NonEmpty | None = Field(default=None, description="Account to charge")
    partition: NonEmpty | None = Field(default=None, description="Partition or queue")
    qos: NonEmpty | None = Field(default=None, description="Quality of service")
    priority: Priority | None = Field(default=None, description="Priority")
    time_limit: Duration | None = Field(default=None, description="How long the job may run: `1h30m`")
    begin: Time | None = Field(default=None, description="When it may start at the earliest")
    dependencies: DependencyFields | None = Field(default=None, description="All conditions; an empty list: none")
    comment: Word | None = Field(default=None, description="A comment")


class PostJobSignalRequest(StrictWireModel):
    """A signal for a running job."""

    signal: SignalName = Field(description="Name or number of the signal", examples=["USR1"])


class PostJobCheckResponse(WireModel):
    """The scheduler would accept the job; its estimate of when and where it would start."""

    start: int | None = Field(default=None, description="Seconds since the epoch")
    partition: str | None = None
    nodes: str | None = None
    cpus: int | None = None
