"""The job that a request wants submitted when its transfer is complete (`thenSubmit`)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import Field, Invalid
from flamecrest.server.http.jobs.specs import job_spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flamecrest.server.cluster import Cluster, Permission
    from flamecrest.server.http.core.route import Call
    from flamecrest.server.schedulers.values import JobSpec
    from flamecrest.server.transfer.port import SubmittedTransfer
    from flamecrest.wire.compute import JobDescriptionModel


class Following:
    """The job of one request; none if it wants none."""

    def __init__(self, call: Call, allowed: Permission, spec: JobSpec | None) -> None:
        self._call = call
        self._allowed = allowed
        self._spec = spec

    @classmethod
    @asynccontextmanager
    async def of(cls, call: Call, allowed: Permission, given: JobDescriptionModel | None) -> AsyncIterator[Following]:
        """Check the job before the transfer begins, in the block, and keep room for it until that has begun.

        Raises Denied, Invalid, Busy if the job could not be submitted.
        """
        if given is None:
            yield cls(call, allowed, None)
            return
        spec = await following_spec(call, call.cluster, given)
        with allowed.tracked_transfers().room_to_follow(spec):
            yield cls(call, allowed, spec)

    async def begin(self, job: SubmittedTransfer) -> None:
        """Keep the job for a transfer that has begun."""
        if self._spec is not None:
            await self._allowed.tracked_transfers().submit_after(job, self._spec, self._call.deadline)


async def following_spec(call: Call, cluster: Cluster, given: JobDescriptionModel) -> JobSpec:
    """The job to submit to a cluster. Raises Denied if the caller may submit no jobs there, Invalid."""
    allowed = await cluster.allow(call.identity, Verb.JOBS_SUBMIT, call.deadline)
    scheduler = allowed.scheduler()
    try:
        spec = job_spec(given)
        scheduler.capabilities.check_fields(spec, "the scheduler")
    except Invalid as error:
        fields = tuple(Field(one.location, f"thenSubmit.{one.name}", one.message) for one in error.fields)
        raise Invalid(f"`thenSubmit`: {error.public}", fields=fields) from None
    return spec
