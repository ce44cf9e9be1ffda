"""A batch system that runs a job's script with bash at once and keeps no records."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flamecrest.server.errors import Invalid

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.values import JobSpec

NO_RECORDS = "bash keeps no records of jobs"


@dataclass
class LocalBash:
    """The Submitter port; `statuses` are the exit statuses by job id."""

    folder: Path
    user: int | None = None  # the user id that jobs run as
    specs: list[JobSpec] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)

    async def submit(self, spec: JobSpec, deadline: Deadline) -> str:
        if spec.script is None or not spec.script.startswith("#!"):
            raise Invalid("This does not look like a batch script")
        self.specs.append(spec)
        job_id = str(len(self.specs))
        script = self.folder / f"job-{job_id}"
        await asyncio.to_thread(script.write_bytes, os.fsencode(spec.script))
        files = [
            await asyncio.to_thread(Path(name or os.devnull).open, mode)
            for name, mode in (
                (spec.standard_input, "rb"),
                (spec.standard_output, "wb"),
                (spec.standard_error, "wb"),
            )
        ]
        try:
            process = await asyncio.create_subprocess_exec(
                "bash",
                str(script),
                stdin=files[0],
                stdout=files[1],
                stderr=files[2],
                cwd=spec.working_directory,
                env={**spec.env, "SLURM_JOB_ID": job_id},
                user=self.user,
            )
            async with deadline.enforce("the job"):
                self.statuses[job_id] = await process.wait()
        finally:
            for file in files:
                file.close()
        return job_id
