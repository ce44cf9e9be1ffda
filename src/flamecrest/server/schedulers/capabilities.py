"""What an adapter of the Scheduler port can do: fields of a job, changes, and operations.

The names are those on the wire, so that an error names what the caller has sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from flamecrest.server.errors import Field, Invalid, Unsupported

from .values import JobChange, JobSpec, Resources


class Operation(StrEnum):
    """An operation of the Scheduler port that not every scheduler has."""

    ATTACH = "attach"
    HOLD = "hold"
    RELEASE = "release"
    REQUEUE = "requeue"
    SUSPEND = "suspend"
    RESUME = "resume"
    SIGNAL = "signal"
    CHANGE = "change"
    CHECK = "check"  # whether a job would be accepted
    FIND = "find"  # a job by its marker
    RESERVATIONS = "reservations"
    ACCOUNTS = "accounts"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The optional fields of a job, the fields that can be changed later, and the operations of one adapter."""

    fields: frozenset[str]
    changes: frozenset[str]
    operations: frozenset[Operation]

    def check_fields(self, spec: JobSpec, scheduler: str) -> None:
        """Raise Invalid for fields of the job that the scheduler does not have: they are never dropped."""
        _check(given_fields(spec), self.fields, f"{scheduler} has no such field for jobs")

    def check_change(self, change: JobChange, scheduler: str) -> None:
        """Raise Invalid for fields that the scheduler cannot change."""
        _check(changed_fields(change), self.changes, f"{scheduler} cannot change this field of a job")

    def check_operation(self, operation: Operation, scheduler: str) -> None:
        """Raise Unsupported for an operation that the scheduler does not have."""
        if operation not in self.operations:
            raise Unsupported(f"{scheduler} does not support this operation: {operation}")


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


_RESOURCES: Final[Mapping[str, str]] = MappingProxyType(
    {one.name: f"resources.{_camel(one.name)}" for one in fields(Resources)}
)
# what every scheduler takes, and what is not the caller's
_COMMON: Final = frozenset(
    {
        "working_directory",
        "script",
        "script_path",
        "env",
        "resources",
        "marker",
        "idempotency_key",
        "new_key",
        "script_name",
    }
)
_OPTIONAL: Final[Mapping[str, str]] = MappingProxyType(
    {one.name: _camel(one.name) for one in fields(JobSpec) if one.name not in _COMMON}
)
_CHANGES: Final[Mapping[str, str]] = MappingProxyType({one.name: _camel(one.name) for one in fields(JobChange)})

JOB_FIELDS: Final = frozenset({*_OPTIONAL.values(), *_RESOURCES.values()})  # all optional fields of a job
CHANGES: Final = frozenset(_CHANGES.values())  # all fields that a JobChange has


def given_fields(spec: JobSpec) -> Iterator[str]:
    """The optional fields that the job sets, by their names on the wire: `timeLimit`, `resources.gpus`."""
    for name, wire in _OPTIONAL.items():
        if getattr(spec, name) not in (None, ()):
            yield wire
    for name, wire in _RESOURCES.items():
        if getattr(spec.resources, name) is not None:
            yield wire


def sent_fields(spec: JobSpec) -> frozenset[str]:
    """The fields of the request that a refusal may be about: those of `given_fields`, and the script."""
    return frozenset({*given_fields(spec), "script" if spec.script is not None else "scriptPath"})


def changed_fields(change: JobChange) -> Iterator[str]:
    """The fields that a change sets, by their names on the wire."""
    return (wire for name, wire in _CHANGES.items() if getattr(change, name) is not None)


def _check(given: Iterable[str], known: frozenset[str], message: str) -> None:
    missing = [name for name in given if name not in known]
    if missing:
        shown = tuple(Field("body", name, message) for name in missing)
        raise Invalid(f"{', '.join(missing)}: {message}", fields=shown)
