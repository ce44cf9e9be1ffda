"""Runs steps in order and reports the result of each; knows nothing of AiiDA."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Step = Callable[..., str | None]


def expect(got: object, wanted: object) -> None:
    """Fail with both values where they differ."""
    if got != wanted:
        raise AssertionError(f"got {got!r}, wanted {wanted!r}")


@contextmanager
def refused(kind: type[Exception], *texts: str) -> Iterator[None]:
    """Fail unless the block raises this kind of exception with these texts in it."""
    try:
        yield
    except kind as error:
        missing = [text for text in texts if text not in str(error)]
        if missing:
            raise AssertionError(f"{missing} not in {str(error)!r}") from error
    else:
        raise AssertionError(f"no {kind.__name__}")


def until(question: Callable[[], Any], seconds: float = 60) -> Any:
    """Poll twice a second; return the first true result."""
    end = time.monotonic() + seconds
    while not (answer := question()):
        if time.monotonic() > end:
            raise AssertionError(f"nothing in {seconds:g} s")
        time.sleep(0.5)
    return answer


def name_of(step: Step) -> str:
    """The name of a step in the report."""
    return step.__name__.replace("_", " ")


def run(steps: list[Step], *args: object) -> list[str]:
    """Run all steps, each with the same arguments, and return the names of those that failed."""
    failed = []
    for step in steps:
        start = time.monotonic()
        try:
            detail = step(*args)
        except Exception:  # noqa: BLE001 - whatever it is, the report says it and goes on
            failed.append(name_of(step))
            print(f"FAILED {name_of(step)}", flush=True)
            traceback.print_exc(file=sys.stdout)
        else:
            seconds = time.monotonic() - start
            print(f"ok {name_of(step)}{f': {detail}' if detail else ''} ({seconds:.1f} s)", flush=True)
    return failed
