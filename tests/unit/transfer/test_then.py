"""Jobs that are kept for later are the same when they come back."""

from __future__ import annotations

from dataclasses import fields

import pytest

from flamecrest.server.errors import Conflict
from flamecrest.server.schedulers.values import ArrayRequest, Dependency, DependencyKind, JobSpec, Mail, MailEvent
from flamecrest.server.transfer.direct.links import LinkSigner
from flamecrest.server.transfer.records.names import new_id
from flamecrest.server.transfer.tracking.then import ThenSubmit

SIGNER = LinkSigner(b"k" * 32)


def no_scheduler() -> JobSpec:
    raise AssertionError


def keeper(user: str = "ann", signer: LinkSigner = SIGNER) -> ThenSubmit:
    return ThenSubmit(user, "cluster", signer, no_scheduler)  # type: ignore[arg-type]


PLAIN = JobSpec(working_directory="/w", script="#!/bin/sh\n", idempotency_key="k")
FULL = JobSpec(
    working_directory="/w",
    script="#!/bin/sh\n",
    env={"A": "b"},
    array=ArrayRequest("1-3", 2),
    dependencies=(Dependency(DependencyKind.AFTER_OK, ("1", "2")),),
    mail=Mail((MailEvent.END,), "a@b"),
    native=("--x",),
    idempotency_key="k",
)


@pytest.mark.parametrize("spec", [PLAIN, FULL], ids=["plain", "full"])
def test_a_job_comes_back_as_it_was(spec: JobSpec) -> None:
    transfer = new_id(1)
    back = keeper().parse(transfer, keeper().pack(transfer, spec))
    for field in fields(JobSpec):
        before, after = getattr(spec, field.name), getattr(back, field.name)
        assert (type(before), before) == (type(after), after), field.name


def test_nobody_else_can_write_a_job() -> None:
    one, other = new_id(1), new_id(1)
    packed = keeper().pack(one, PLAIN)
    for who, transfer, data in (
        (keeper(), other, packed),
        (keeper("bob"), one, packed),
        (keeper(signer=LinkSigner(b"j" * 32)), one, packed),
        (keeper(), one, packed.replace(b"/w", b"/x")),
        (keeper(), one, b"\n" + packed.partition(b"\n")[2]),
    ):
        with pytest.raises(Conflict, match="another key"):
            who.parse(transfer, data)
