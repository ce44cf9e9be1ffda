"""The command line of the benchmark: which site, which contenders, which workloads, and how it came out."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

try:
    from .columns import GATEWAY
    from .contenders import sites
    from .contenders.openssh import OpenSsh
    from .contenders.servers import Foreign, crowd, flamecrest, foreign, start
    from .measure.resources import listener
    from .report import pages, tables
    from .results import Results
    from .targets import TARGETS, judge
    from .workloads.catalogue import WORKLOADS
    from .workloads.workload import Bench, Workload
except ModuleNotFoundError as missing:
    sys.exit(f"bench: the package {missing.name} is missing: run scripts/setup, then .venv/bin/python -m bench")

STARTED = time.monotonic()
TOKEN = "FLAMECREST_BENCH_TOKEN"


def arguments() -> argparse.Namespace:
    names = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--sandbox", action="store_true", help="run on the sandbox instead of the real centre")
    parser.add_argument("--url", help=f"measure this gateway, with the access token in the variable {TOKEN}")
    parser.add_argument("--system", help="the name that the gateway behind --url has for the site")
    parser.add_argument("--only", type=lambda text: text.split(","), default=names, help=f"some of {','.join(names)}")
    parser.add_argument("--quick", action="store_true", help="fewer runs; what takes minutes is extrapolated")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.html, report.md and result.json there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured into a file")
    parser.add_argument("--keep-logs", type=Path, metavar="DIR", help="keep the servers' logs there")
    chosen = parser.parse_args()
    if unknown := set(chosen.only) - set(names):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if chosen.url and not os.environ.get(TOKEN):
        parser.error(f"--url needs an access token in the variable {TOKEN}")
    return chosen


def say(text: str) -> None:
    print(f"[{time.monotonic() - STARTED:4.0f} s] {text}", file=sys.stderr, flush=True)


def measure(chosen: argparse.Namespace, workloads: Sequence[Workload], results: Results) -> None:
    """Run the workloads, print each one's tables, and keep what was measured in `results`."""
    with ExitStack() as stack:
        folder = chosen.keep_logs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flamecrest-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        site = stack.enter_context(sites.sandbox(folder, users=1) if chosen.sandbox else sites.real())
        issuer = stack.enter_context(sites.issuing(site))
        wanted = {key for workload in workloads for key in workload.needs}
        given = Foreign(chosen.url, os.environ[TOKEN], chosen.system or site.system) if chosen.url else None
        files = stack.enter_context(sites.small_files(site)) if wanted else ""
        bench = Bench(
            contenders={
                key: foreign(given)
                if given and key == GATEWAY
                else stack.enter_context(start(key, site, issuer, folder))
                for key in wanted
            },
            files=sites.names(files),
            folder=files,
            quick=chosen.quick,
            crowd=partial(crowd, folder / "crowd"),
            fresh=lambda: flamecrest(site, issuer, folder / "fresh"),
            shell=partial(sites.command, site),
            ssh=OpenSsh(site, folder),
            sshd=listener(site.port),
            say=say,
        )
        for workload in workloads:
            results.extend(asyncio.run(workload.run(bench)))
            print(tables.tables(workload, results), flush=True)


def main() -> int:
    """Measure and print; 0 when every target that was measured is met, 1 when one is missed, 2 when it can't be run."""
    chosen = arguments()
    workloads = [workload for workload in WORKLOADS if workload.name in chosen.only]
    about, where = tables.machine(), "the sandbox" if chosen.sandbox else "real sshd (tests/live/centre)"
    print(tables.preface(about, where, quick=chosen.quick), flush=True)
    for missing in sites.missing_programs():
        say(f"bench: {missing}")
    results = Results()
    try:
        measure(chosen, workloads, results)
    except sites.NotReadyError as reason:
        say(f"bench: {reason}")
        return 2
    found = [judge(target, results, sandbox=chosen.sandbox) for target in TARGETS]
    print(tables.verdicts(found))
    document = tables.as_json(about, where, results, found)
    if chosen.json:
        chosen.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    if chosen.report:
        preface = tables.preface(about, where, quick=chosen.quick)
        pages.write(chosen.report, pages.Content(preface, found, workloads, results), document)
        say(f"bench: the report is in {chosen.report}: report.html, report.md")
    return 1 if any(verdict.passed is False for verdict in found) else 0


if __name__ == "__main__":
    sys.exit(main())
