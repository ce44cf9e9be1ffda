"""Measure the gateway beside its baselines, or beside the gateway of another checkout (--compare)."""

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
    from .columns import GATEWAY, OTHER
    from .contenders import sites
    from .contenders.openssh import OpenSsh
    from .contenders.servers import RunningGateway, Servers
    from .measure.resources import listener
    from .report import files, markdown
    from .report.document import ReportDocument
    from .results import Results
    from .targets import TARGETS, comparison, judge
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
    parser.add_argument("--url", help=f"measure the gateway at this URL; the variable {TOKEN} holds an access token")
    parser.add_argument("--system", help="the name of the site in the gateway at --url")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="DIR",
        help="measure only this gateway and that of another checkout, which has its own .venv (scripts/setup)",
    )
    parser.add_argument("--only", type=lambda text: text.split(","), default=names, help=f"some of {','.join(names)}")
    parser.add_argument("--quick", action="store_true", help="fewer runs; extrapolate what takes minutes")
    parser.add_argument("--soak-minutes", type=float, metavar="N", help="how long the soak lasts; default 10, quick 1")
    parser.add_argument("--clients", type=int, default=1000, metavar="N", help="clients of the soak; default 1000")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.html, report.md and result.json there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to a file")
    parser.add_argument("--keep-logs", type=Path, metavar="DIR", help="keep the servers' logs there")
    options = parser.parse_args()
    if unknown := set(options.only) - set(names):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    if options.clients < 1 or not 0 < (options.soak_minutes or 1) <= 24 * 60:
        parser.error("--clients must be at least 1, --soak-minutes more than 0 and at most a day")
    if options.url and not os.environ.get(TOKEN):
        parser.error(f"--url needs an access token in the variable {TOKEN}")
    if options.url and options.compare:
        parser.error("--url and --compare exclude each other")
    if options.compare and not (options.compare / ".venv/bin/flamecrest").exists():
        parser.error(f"{options.compare} has no .venv/bin/flamecrest: run scripts/setup there")
    return options


def say(text: str) -> None:
    print(f"[{time.monotonic() - STARTED:4.0f} s] {text}", file=sys.stderr, flush=True)


def needed(options: argparse.Namespace, workloads: Sequence[Workload]) -> set[str]:
    """The keys of the contenders to start."""
    keys = {key for workload in workloads for key in workload.needs}
    return keys & {GATEWAY} | ({OTHER} if keys else set()) if options.compare else keys


def measure(options: argparse.Namespace, workloads: Sequence[Workload], results: Results) -> None:
    """Run the workloads, print the tables of each one, and collect the cells in `results`."""
    with ExitStack() as stack:
        folder = options.keep_logs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flamecrest-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        site = stack.enter_context(sites.sandbox(folder, users=1) if options.sandbox else sites.real())
        issuer = stack.enter_context(sites.issuing(site))
        other = options.compare.resolve() if options.compare else None
        servers = Servers(site, issuer, folder, other)
        keys = needed(options, workloads)
        contenders = {}
        if options.url and GATEWAY in keys:
            running = RunningGateway(options.url, os.environ[TOKEN], options.system or site.system)
            contenders[GATEWAY] = running.contender()
        for key in keys - contenders.keys():
            contenders[key] = stack.enter_context(servers.start(key))
        small_files = stack.enter_context(sites.small_files(site)) if keys else ""
        bench = Bench(
            contenders=contenders,
            servers=servers,
            files=sites.file_paths(small_files),
            folder=small_files,
            quick=options.quick,
            shell=partial(sites.run_command, site),
            ssh=OpenSsh(site, folder),
            scheduler=not options.sandbox,
            sshd=listener(site.port),
            say=say,
            clients=options.clients,
            soak_minutes=options.soak_minutes,
        )
        for workload in workloads:
            results.extend(asyncio.run(workload.run(bench)))
            print(markdown.section(workload, results), flush=True)


def main() -> int:
    """Measure and print. Exit status: 0 if no target is missed, 1 if one is, 2 if the site cannot be used."""
    options = arguments()
    workloads = [workload for workload in WORKLOADS if workload.name in options.only]
    site = "the sandbox" if options.sandbox else "real sshd (tests/live/centre)"
    document = ReportDocument(workloads, site, quick=options.quick)
    print(markdown.preface(document), flush=True)
    for missing in sites.missing_programs():
        say(f"bench: {missing}")
    try:
        measure(options, workloads, document.results)
    except sites.NotReadyError as reason:
        say(f"bench: {reason}")
        return 2
    targets = comparison(document.results) if options.compare else TARGETS
    document.verdicts = [judge(target, document.results, sandbox=options.sandbox) for target in targets]
    print(markdown.verdicts(document.verdicts))
    if options.json:
        options.json.write_text(json.dumps(document.as_json(), indent=1) + "\n", "utf-8")
    if options.report:
        files.write_report(options.report, document)
        say(f"bench: the report is in {options.report}: report.html, report.md")
    return 1 if any(verdict.passed is False for verdict in document.verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
