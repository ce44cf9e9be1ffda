"""The content of a report: the conditions of the run, its results and verdicts; and all of it as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.results import Results
from bench.targets import Verdict
from bench.workloads.workload import Workload

PACKAGES = ("flamecrest", "asyncssh", "fastapi", "granian", "uvloop", "httpx")
RESOURCES = "Resource analysis: processor time and memory of the server and of sshd"


def machine() -> dict[str, Any]:
    """The machine and the versions of the software that is measured."""
    return {
        "processors": os.cpu_count(),
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


@dataclass(slots=True)
class ReportDocument:
    """The content of a report; results and verdicts are filled in while the benchmark runs."""

    workloads: Sequence[Workload]
    site: str  # what the benchmark runs on
    quick: bool
    about: Mapping[str, Any] = field(default_factory=machine)
    results: Results = field(default_factory=Results)
    verdicts: Sequence[Verdict] = ()
    title: str = "Flamecrest's benchmark"

    @property
    def conditions(self) -> str:
        """What to know before reading the numbers, one paragraph per line."""
        about = self.about
        packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
        machine = f"{about['processors']} processors ({about['processor']})"
        shared = "The load generator, the gateway, the baselines and the SSH server share these processors"
        lines = [
            f"Site: {self.site}. Machine: {machine}. Software: Python {about['python']}, {packages}.",
            f"{shared}: compare columns of one run, not numbers of two machines.",
        ]
        if self.quick:
            lines.append("A quick run: fewer repetitions, and what takes minutes is extrapolated.")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Every sample and every verdict, in types that JSON has."""
        targets = [
            {
                "text": verdict.target.text,
                "sense": verdict.target.sense,
                "limit": verdict.target.limit,
                "unit": verdict.target.unit,
                "value": verdict.value,
                "passed": verdict.passed,
                "note": verdict.note,
            }
            for verdict in self.verdicts
        ]
        cells = [cell.as_json() for cell in self.results.cells]
        return {"machine": self.about, "place": self.site, "cells": cells, "targets": targets}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
