"""Job ids of the local scheduler: `123`, `123_4` for an element of an array, `123_[1-5]` for several."""

from __future__ import annotations

import re
from typing import Final

from flamecrest.server.errors import Field, Invalid
from flamecrest.server.schedulers.slurm.ids import SlurmJobId

_ID: Final = re.compile(r"[0-9]{1,15}(?:_[0-9]{1,7}|_\[[0-9,:-]{1,100}\])?", re.ASCII)


def parse_job_id(text: str) -> SlurmJobId:
    """Parse an id as written by a caller: those of Slurm without components and clusters. Raises Invalid, NotFound."""
    if not _ID.fullmatch(text):
        message = "Invalid job id. Examples: 123, 123_4, 123_[1-5]"
        raise Invalid(message, fields=(Field("path", "job_id", message),))
    return SlurmJobId.parse(text)


def id_fields(text: str) -> dict[str, str | None]:
    """The fields of a request about the job."""
    job = parse_job_id(text)
    return {"id": job.base_id, "els": None if job.elements is None else str(job.elements), "shown": str(job)}
