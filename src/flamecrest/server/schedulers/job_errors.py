"""Errors about jobs that every scheduler raises in the same words."""

from __future__ import annotations

from typing import Final

from flamecrest.server.errors import NotFound

MAYBE_SUBMITTED: Final = "The job may have been submitted. Check your jobs before you submit it again."


def job_not_found(detail: str) -> NotFound:
    """The error for an unknown job. Clients search for "Job not found"; `detail` is an id or a scheduler's message."""
    return NotFound(f"Job not found: {detail}")
