"""Prints how many replicas centres of several sizes need: `python -m bench.capacity`.

MEASURED has the figures of `python -m bench --only costs,memory` and the defaults of the settings; KINDS and ACTIVE are
assumptions. A centre puts its own in their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .simulation import Kind, Measured, Need, need

SIZES: Final = (100, 1_000, 10_000, 30_000, 100_000)  # users of a centre
ACTIVE: Final = 0.10  # of all users, at the busiest time

MEASURED: Final = Measured(
    # medians of three runs beside other work on both cores (load 14 to 18)
    request={"stat": 0.95e-3, "ls": 0.83e-3, "download": 0.6e-3, "upload": 1.1e-3, "jobs": 0.65e-3, "submit": 4.0e-3},
    login=2.1e-3,
    idle=115.0,
    user=0.05,
    client=0.01,
    connections=2000,
    idle_timeout=60.0,
    descriptors=30,
)
KINDS: Final = (
    # people with a portal: a page now and then, of a few requests
    Kind(0.80, burst=5, gap=0.3, pause=60.0, operations={"ls": 4, "stat": 2, "download": 1, "jobs": 3}),
    # scripts that ask for their jobs, and now and then submit one
    Kind(0.17, burst=1, gap=0.0, pause=5.0, operations={"jobs": 8, "stat": 1, "submit": 1}),
    # workflow managers: 20 requests a second for a second, then 3 seconds of their own work
    Kind(
        0.03, burst=20, gap=0.05, pause=3.0, operations={"stat": 6, "download": 4, "upload": 4, "jobs": 4, "submit": 2}
    ),
)


def table(needs: Sequence[Need]) -> str:
    """The needs as a table in Markdown."""
    heads: tuple[str, ...] = (
        "users",
        "active at once",
        "requests/s",
        "replicas",
        "first limit",
        "share of a core",
        "wait, p99 (ms)",
    )
    heads += ("SSH connections", "new ones a second", "memory (MiB)", "descriptors")
    lines = [f"| {' | '.join(heads)} |", f"|{'---:|' * len(heads)}"]
    for one in needs:
        cells = [f"{one.users:,}", f"{one.active:,}", f"{one.rate:,.0f}", str(one.replicas), one.limit]
        cells += [f"{one.busy:.0%}", f"{one.wait * 1000:.0f}", f"{one.ssh:,}", f"{one.logins:.1f}"]
        cells += [f"{one.memory:,.0f}", f"{one.descriptors:,}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table([need(users, KINDS, MEASURED, active=ACTIVE) for users in SIZES]))
