"""Converts jobs to submit, and changes of jobs, from the wire to values of the Scheduler port."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.errors import Field, Invalid
from flamecrest.server.schedulers.values import (
    ArrayRequest,
    Dependency,
    DependencyKind,
    JobChange,
    JobSpec,
    Mail,
    MailEvent,
    Resources,
    WarningSignal,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flamecrest.server.http.core.route import Call
    from flamecrest.wire import job_options as wire
    from flamecrest.wire.compute import JobDescriptionModel

MAX_KEY: Final = 255  # characters
# A bare key without comma: proxies join repeated headers by commas. Or a string as RFC 8941 has it.
_KEY: Final = re.compile(rf'([!#-+\-./0-9:-~]{{1,{MAX_KEY}}})|"((?:[ !#-\[\]-~]|\\["\\]){{1,{MAX_KEY}}})"', re.ASCII)
_ESCAPED: Final = re.compile(r"\\(.)")
KEY_HEADER: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "A text of your choice, best a UUID. The same key with the same job is submitted once",
            "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
        }
    ]
}


def job_spec(job: JobDescriptionModel, key: str | None = None) -> JobSpec:
    """Convert a job, submitted with an idempotency key; empty texts count as missing. Raises Invalid."""
    if bool(job.script) == bool(job.script_path):
        raise _invalid("script", "exactly one of `script` and `scriptPath` must be given")
    if job.begin is not None and job.deadline is not None and job.begin >= job.deadline:
        raise _invalid("deadline", "must be after `begin`")
    resources = job.resources
    if job.constraints and resources is not None and resources.features is not None:
        raise _invalid("constraints", "`constraints` and `resources.features` are the same: give one of them")
    return JobSpec(
        working_directory=job.working_directory,
        script=job.script or None,
        script_path=job.script_path or None,
        name=job.name or None,
        account=job.account or None,
        partition=job.partition or None,
        reservation=job.reservation or None,
        constraints=job.constraints or None,
        standard_input=job.standard_input or None,
        standard_output=job.standard_output or None,
        standard_error=job.standard_error or None,
        env=job.env,
        resources=Resources() if resources is None else Resources(**resources.__dict__),
        time_limit=job.time_limit,
        qos=job.qos or None,
        priority=job.priority,
        array=None if job.array is None else ArrayRequest(job.array.elements, job.array.max_running),
        dependencies=_dependencies(job.dependencies) if job.dependencies else (),
        hold=job.hold,
        begin=job.begin,
        deadline=job.deadline,
        requeue=job.requeue,
        signal=None
        if job.signal is None
        else WarningSignal(job.signal.name.removeprefix("SIG"), job.signal.before_end),
        mail=None if job.mail is None else Mail([MailEvent(one) for one in job.mail.events], job.mail.address),
        comment=job.comment or None,
        licenses=job.licenses or None,
        container=job.container or None,
        native=tuple(job.native or ()),
        idempotency_key=key,
    )


def idempotency_key(call: Call) -> str | None:
    """The key in the header of a submission, without the quotes of a structured field. Raises Invalid.

    Source: draft-ietf-httpapi-idempotency-key-header, which asks for a string; most clients send the bare text.
    """
    given = [value.decode("latin-1") for name, value in call.scope["headers"] if name == b"idempotency-key"]
    if not given:
        return None
    found = _KEY.fullmatch(given[0].strip()) if len(given) == 1 else None
    if found is None:
        message = f"must be given once, as 1 to {MAX_KEY} characters of printable ASCII"
        raise Invalid(f"`Idempotency-Key` {message}", fields=(Field("header", "idempotency-key", message),))
    return found[1] or _ESCAPED.sub(r"\1", found[2])


def numbered_spec(number: int, job: JobDescriptionModel, key: str | None = None) -> JobSpec:
    """Convert the job with this place in a list of jobs. Raises Invalid that names the place: `jobs.3.deadline`."""
    try:
        return job_spec(job, key)
    except Invalid as error:
        fields = tuple(in_list(number, one) for one in error.fields)
        raise Invalid(f"`jobs.{number}`: {error.public}", fields=fields) from None


def in_list(number: int, field: Field) -> Field:
    """A field of a job, as it is named in a list of jobs."""
    return Field(field.location, f"jobs.{number}.{field.name}", field.message)


def job_change(body: wire.PatchJobRequest) -> JobChange:
    """Convert a change. Raises Invalid for one that changes nothing."""
    given = {name: value for name, value in body.__dict__.items() if value is not None}
    if not given:
        raise _invalid("body", "names no field to change")
    if body.dependencies is not None:
        given["dependencies"] = _dependencies(body.dependencies)
    return JobChange(**given)


def _dependencies(given: Iterable[wire.DependencyModel]) -> tuple[Dependency, ...]:
    return tuple(Dependency(DependencyKind(one.kind), tuple(one.job_ids)) for one in given)


def _invalid(name: str, message: str) -> Invalid:
    return Invalid(f"`{name}`: {message}", fields=(Field("body", name, message),))
