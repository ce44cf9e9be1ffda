"""The tables in docs/reliability.md, from the observations of a run: `python -m tests.live.reliability.page FOLDER`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .catalog import FAULTS, Kind
from .traffic import NO_ANSWER

PAGE = Path(__file__).parents[3] / "docs/reliability.md"
BEGIN, END = "<!-- observed -->\n", "<!-- end -->\n"
LONGEST = 170  # characters of a message that are shown
COUNTED = ("connections", "programs", "descriptors", "sockets", "children")
Found = Mapping[str, Any]  # what Fault writes


def tables(found: Mapping[str, Found], machine: str, page: str = "") -> str:
    """What clients see of each fault, and what is left of it. Faults that are not found keep their rows of a page."""
    rows = [line for line in page.partition(BEGIN)[2].partition(END)[0].splitlines() if line.startswith("| ")]
    seen = ["| fault | what clients see | noticed | over |", "|---|---|---|---|"]
    left = [
        "| fault | lost, doubled | " + " | ".join(COUNTED) + " | memory |",
        "|---|---|" + "---|" * (len(COUNTED) + 1),
    ]
    for kind in FAULTS:
        one = found.get(kind.key)
        name = f"| **{kind.title}**: {kind.means} |"
        kept = [[row for row in rows if row.startswith(head)] for head in (name, f"| {kind.title} |")]
        if one:
            seen.append(f"{name} {_seen(one)} |")
            left.append(f"| {kind.title} | {_kept(one)} | {_left(one)} |")
        else:
            seen += kept[0] or [f"{name} not observed in this run | - | - |"]
            left += kept[1]
    earlier = "; some rows are of an earlier run" if rows and not all(kind.key in found for kind in FAULTS) else ""
    return "\n".join([f"Observed on {machine}{earlier}.", "", *seen, "", "## What is left", "", LEFT, "", *left, ""])


LEFT = """\
Counted when nobody asked for anything; before → after: connections (sessions of sshd) and programs on the login nodes;
open descriptors, sockets among them, child processes and resident memory of the gateway. Sockets may be connections
to the issuer or to OpenFGA that are kept for the next request. Part of the memory is shared with other gateways."""


def _seen(one: Found) -> str:
    if not one["failed"]:
        return f"nothing: {one['requests']} requests were served, the longest took {_seconds(one['longest'])} | - | -"
    answers = "<br>".join(
        f"{', '.join(kinds)}: {_answer(each['status'], each['message'])}"
        for each in one["seen"]
        for kinds in [list(each["requests"])]
    )
    return f"{answers} | {_seconds(one['noticed'])} | {_seconds(max(one['over'], 0.0))}"


def _answer(status: int, message: str) -> str:
    shown = message if len(message) <= LONGEST else message[:LONGEST].rpartition(" ")[0] + " …"
    text = shown.replace("|", "\\|").replace("<", "&lt;")
    return f"*{text}*" if status == NO_ANSWER else f"**{status}** {text}"


def _kept(one: Found) -> str:
    return "nothing: " + "; ".join(one["kept"]) if one["kept"] else "only reads"


def _left(one: Found) -> str:
    before, after = one["before"], one["after"]
    cells = [f"{before[name]} → {after[name]}" for name in COUNTED]
    return " | ".join([*cells, f"{before['memory'] // 1024} → {after['memory'] // 1024} MiB"])


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"


def here() -> str:
    """This machine and its programs."""
    ssh = subprocess.run(["ssh", "-V"], check=False, capture_output=True, text=True).stderr.split(",")[0]
    kernel = platform.release().split("-")[0]
    load = os.getloadavg()[1]
    return (
        f"a machine with {os.cpu_count()} processors (load {load:.0f}), Linux {kernel}, Python "
        f"{platform.python_version()}, {ssh.replace('_', ' ')}, Slurm 24.11.5"
    )


def with_tables(page: str, text: str) -> str:
    """The page with other tables."""
    head, _, rest = page.partition(BEGIN)
    return head + BEGIN + text + END + rest.partition(END)[2]


def main() -> None:
    found = {path.stem: json.loads(path.read_text()) for path in Path(sys.argv[1]).glob("*.json")}
    page = PAGE.read_text()
    PAGE.write_text(with_tables(page, tables(found, here(), page)))


__all__ = ["FAULTS", "PAGE", "Kind", "tables", "with_tables"]

if __name__ == "__main__":
    main()
