"""The course of one fault: counts before, the fault, counts after. What was observed is written down when asked for."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from tests.live.faults import Sshd, until

from .catalog import FAULTS
from .counts import at_rest
from .traffic import NO_ANSWER, Sample, Traffic

FOLDER = "FLAMECREST_FAULTS"  # the variable with the folder of the observations
MOST_SEEN = 4  # different answers of a row
Check = Callable[[], str]  # fails, or says what was kept


class Fault:
    """While it is entered, traffic runs; on leaving, it must be over, and nothing may be left.

    `gateway` gives the pid, which a restart changes. With `from_start` the fault is there from the start.
    """

    def __init__(
        self, key: str, gateway: Callable[[], int], nodes: Sequence[Sshd], traffic: Traffic, *, from_start: bool
    ) -> None:
        assert key in {one.key for one in FAULTS}, key
        self.key = key
        self.traffic = traffic
        self.checks: list[Check] = []
        self.began = self.ended = 0.0
        self._gateway = gateway
        self._nodes = nodes
        self._from_start = from_start

    def __enter__(self) -> Self:
        self.traffic.once()
        self.before = at_rest(self._gateway, self._nodes)
        if self._from_start:
            self.began = time.monotonic()
        self.traffic.start()
        self.traffic.until_served(0, 2 if self._from_start else 3)
        self.ended = time.monotonic()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.traffic.stop()
            return
        try:
            if not self._from_start:
                self.traffic.until_served(self.ended)
        finally:
            self.traffic.stop()
        kept = [check() for check in self.checks]
        after = at_rest(self._gateway, self._nodes, self.before)
        self._write(kept=kept, before=asdict(self.before), after=asdict(after), **self._course())

    @contextmanager
    def lasts(self) -> Iterator[None]:
        """The block is the fault: from just before it is made to just after it is taken back."""
        self.began = time.monotonic()
        yield
        self.ended = time.monotonic()

    def until_noticed(self, *kinds: str) -> None:
        """Wait until a request of these kinds (any) has failed since the fault is there."""

        def noticed() -> bool:
            samples = list(self.traffic.samples)
            return any(
                not one.served for one in samples if one.ended >= self.began and one.what in (kinds or {one.what})
            )

        until(noticed, f"{kinds} notice the fault", 100)

    def until_served(self, times: int = 3) -> None:
        """Wait until every client is served although the fault lasts."""
        self.traffic.until_served(time.monotonic(), times)

    def until_others_served(self, *kinds: str) -> None:
        """Wait until the clients of all but these kinds are served although the fault lasts."""
        self.traffic.until_served(time.monotonic(), kinds=self.traffic.kinds - set(kinds))

    def _course(self) -> dict[str, Any]:
        samples = [one for one in self.traffic.samples if one.ended >= self.began]
        failed = sorted((one for one in samples if not one.served), key=lambda one: one.ended)
        return {
            "requests": len(samples),
            "failed": len(failed),
            "noticed": failed[0].ended - self.began if failed else None,
            "over": self._over(samples) if failed else None,
            "longest": max(one.ended - one.begun for one in samples),
            "seen": _seen(failed),
        }

    def _over(self, samples: list[Sample]) -> float:
        """Seconds from the end of the fault until each kind of request was served, and failed no more."""
        ends = []
        for what in {one.what for one in samples}:
            mine = sorted((one for one in samples if one.what == what), key=lambda one: one.ended)
            last = max((n for n, one in enumerate(mine) if not one.served), default=-1)
            first = next((one for one in mine[last + 1 :] if one.ended >= self.ended), None)
            ends.append(first.ended - self.ended if first else 0.0)
        return max(ends)

    def _write(self, **found: Any) -> None:
        if folder := os.environ.get(FOLDER):
            Path(folder).mkdir(parents=True, exist_ok=True)
            found |= {"key": self.key, "lasted": self.ended - self.began}
            Path(folder, f"{self.key}.json").write_text(json.dumps(found, indent=1) + "\n")


def _seen(failed: list[Sample]) -> list[dict[str, Any]]:
    """The different failures, the most frequent first."""
    found: dict[tuple[int, str], Counter[str]] = {}
    for one in failed:
        found.setdefault((one.status, without_addresses(one.message)), Counter())[one.what] += 1
    most = sorted(found.items(), key=lambda item: -item[1].total())
    return [
        {"status": status or NO_ANSWER, "message": message, "requests": dict(sorted(some.items()))}
        for (status, message), some in most[:MOST_SEEN]
    ]


def without_addresses(message: str) -> str:
    """The message without what differs from run to run: addresses, ports, times, paths, names, ids."""
    for pattern, instead in (
        (r"\b(127|198)(\.\d+){3}(:\d+)?|\blogin\.centre\.test(:\d+)?", "login.example.org"),
        (r"\b(port|Port) \d+", r"\1 N"),
        (r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-][\d:]+)", "TIME"),
        (r"cluster-[\w-]+", "daint"),
        (r"/(home|tmp)/[^\s'\",;:]+", "PATH"),
        (r"\b(fire|user)\w*\d+\b|\bfireuser\b", "alice"),
        (r"\b[0-9a-f]{16,}\b", "ID"),
    ):
        message = re.sub(pattern, instead, message)
    return message
