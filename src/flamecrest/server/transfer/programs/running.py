"""The life of a job's program: its log, its exit status, and its cleanup when it is stopped."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from .options import read_options
from .replacing import Refused, reason

if TYPE_CHECKING:
    from collections.abc import Callable

    class Work(Protocol):
        """What a program does."""

        def discard(self) -> None:
            """Remove what is incomplete."""


def log(text: str) -> None:
    """A line of the job's log."""
    sys.stderr.write(time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime()) + text + "\n")
    sys.stderr.flush()


def stop(_signal: int, _frame: object) -> None:
    """End the program as a signal does, after its cleanup."""
    sys.exit(143)


def run(make: Callable[[dict[str, Any]], Any], act: Callable[[dict[str, Any], Any], int]) -> None:
    """Make the work from the options, do it, and exit. A signal ends it, and it cleans up."""
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    work: Work | None = None
    status = 1
    options = read_options()
    try:
        work = make(options)
        status = act(options, work)
    except Refused as error:
        log(str(error))
    except OSError as error:
        log(reason(error))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if work is not None:
            work.discard()
    sys.stderr.flush()
    os._exit(status)  # threads may be in the middle of something
