"""Messages of `/compute/{system_name}/bulk`: many jobs in one request, each with its own result."""

from typing import Annotated

from pydantic import Field

from .casing import WireModel
from .compute import JobDescriptionModel, JobModel
from .job_options import JobReference, StrictWireModel

MAX_JOBS = 1000


class BulkSubmitRequest(StrictWireModel):
    """Jobs to submit."""

    jobs: Annotated[list[JobDescriptionModel], Field(min_length=1, max_length=MAX_JOBS)]


class BulkJobsRequest(StrictWireModel):
    """Ids of jobs."""

    job_ids: Annotated[list[JobReference], Field(min_length=1, max_length=MAX_JOBS, examples=[["4711", "4712_3"]])]


class BulkJobError(WireModel):
    """Why an operation failed for one job."""

    status: int = Field(description="The HTTP status that the operation alone would have had")
    message: str
    fields: list[dict[str, str]] | None = Field(
        default=None, description="`location`, `name` and `message` of each invalid field"
    )
    kind: str | None = Field(default=None, description="Why the scheduler refuses the job: `unknownPartition`, `quota`")


class BulkJobResult(WireModel):
    """The result for one job: its id, the job for `status`, or an error."""

    job_id: str | None = None
    job: JobModel | None = None
    error: BulkJobError | None = None


class BulkJobsResponse(WireModel):
    """A result for each job, in the order of the request."""

    results: list[BulkJobResult]
