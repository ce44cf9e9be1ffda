"""Errors about jobs that every scheduler raises in the same words."""

from __future__ import annotations

from typing import Final

from flamecrest.server.errors import Field, Invalid, NotFound

MAYBE_SUBMITTED: Final = "The job may have been submitted. Check your jobs before you submit it again."


def job_not_found(detail: str) -> NotFound:
    """The error for an unknown job. Clients search for "Job not found"; `detail` is an id or a scheduler's message."""
    return NotFound(f"Job not found: {detail}")


class WindowTooWide(Invalid):
    """The accounting database refuses to search that long a time. `words` is its message."""

    def __init__(self, words: str) -> None:
        message = f"the accounting database refuses to search that long a time ({words}); ask for a smaller window"
        super().__init__(f"time_window: {message}", fields=(Field("query", "time_window", message),))
        self.words = words
