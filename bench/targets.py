"""Targets for speed and memory: limits of ratios and of single values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Literal

from .columns import CURL, GATEWAY, OPENSSH, OTHER, REST
from .results import HIGHER_IS_BETTER, SERVER_TIME, Cell, Coordinates, Results

COMPARED = {*HIGHER_IS_BETTER, "seconds", "ms", "MiB", SERVER_TIME}  # the main quantities of the workloads
NO_SLOWER = 0.95  # the smallest accepted ratio to the other checkout


@dataclass(frozen=True, slots=True)
class Target:
    """A limit of `of` divided by `by`, or of `of` itself if `by` is None."""

    text: str
    of: Coordinates
    by: Coordinates | None
    sense: Literal["at least", "at most", "below"]
    limit: float
    unit: str = "times"
    paired: bool = False  # compare the samples of each turn, and take the median of the ratios
    of_sshd: bool = False  # the ratio depends on the cost of OpenSSH, so it is not judged on the sandbox


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a target. `value` and `passed` are None if it was not measured or not judged."""

    target: Target
    value: float | None
    passed: bool | None
    note: str = ""


def _seconds(contender: str, files: int) -> Coordinates:
    return ("downloads", contender, "seconds", files)


def _rate(workload: str, contender: str, connections: int = 64) -> Coordinates:
    return (workload, contender, "requests/s", connections)


def _bulk(contender: str) -> Coordinates:
    return ("bulk", contender, "seconds", "a folder")


def _big(contender: str, direction: str) -> Coordinates:
    return ("big", contender, "MiB/s", direction)


def _submitted(contender: str, how: str) -> Coordinates:
    return ("submit", contender, "ms a job", how)


def _polled(quantity: str) -> Coordinates:
    return ("pollers", GATEWAY, quantity, 200)


def _cold(contender: str) -> Coordinates:
    return ("cold", contender, "seconds", "10 calls each")


def _soak(name: str) -> Coordinates:
    return ("soak", GATEWAY, "whole time", name)


def _more(workload: str, parameter: int | str) -> Coordinates:
    return (workload, GATEWAY, "MiB more", parameter)


TARGETS: Sequence[Target] = (
    Target(
        "1000 files of 1 KB by httpx, beside no SSH at all (0)",
        _seconds(GATEWAY, 1000), _seconds("0", 1000), "at most", 1.6,
    ),
    Target(
        "1000 files of 1 KB by httpx, beside FirecREST v1's method (a)",
        _seconds("a", 1000), _seconds(GATEWAY, 1000), "at least", 25, of_sshd=True,
    ),
    Target(
        "stat at 64 connections, beside a command over a pooled connection (c)",
        _rate("stat", GATEWAY), _rate("stat", "c"), "at least", 5, of_sshd=True,
    ),
    Target(
        "download of 1 KB at 64 connections, beside a command over a pooled connection (c)",
        _rate("download", GATEWAY), _rate("download", "c"), "at least", 5, of_sshd=True,
    ),
    Target(
        "authentication and rules with a cached token", ("authorization", GATEWAY, "µs p50", "a cached token"), None,
        "at most", 60, "µs",
    ),
    Target(
        "authentication and rules with a new token", ("authorization", GATEWAY, "µs p50", "a new token"), None,
        "at most", 250, "µs",
    ),
    Target("memory of an idle gateway", ("memory", GATEWAY, "MiB", 0), None, "at most", 120, "MiB"),
    Target("memory that 100 pooled users add", _more("memory", 100), None, "at most", 15, "MiB"),
    Target(
        "1000 files of 1 KB, one request each at 64 connections, beside (c)",
        _rate("download", GATEWAY), _rate("download", "c"), "at least", 10, of_sshd=True,
    ),
    Target(
        "1000 files of 1 KB by bulk download, beside a command for each (c)",
        _bulk("c"), _bulk(GATEWAY), "at least", 100, of_sshd=True,
    ),
    Target(
        "1000 files of 1 KB by bulk download, beside a plain ssh host tar",
        _bulk(GATEWAY), _bulk(OPENSSH), "at most", 2, of_sshd=True,
    ),
    Target(
        "stat at 64 connections, beside (c)",
        _rate("stat", GATEWAY), _rate("stat", "c"), "at least", 12, of_sshd=True,
    ),
    Target(
        "ls of 1,000 entries, beside (c)", _rate("ls", GATEWAY, 16), _rate("ls", "c", 16), "at least", 4, of_sshd=True
    ),
    Target("memory that ls of 100,000 entries adds", _more("entries", 100_000), None, "below", 64, "MiB"),
    Target(
        "upload of 1 KB, 32 at a time, beside (c)",
        _rate("upload", GATEWAY, 32), _rate("upload", "c", 32), "at least", 8, of_sshd=True,
    ),
    Target(
        "1 GiB down, beside ssh host cat", _big(GATEWAY, "down"), _big(OPENSSH, "down"), "at least", 0.7, of_sshd=True
    ),
    Target("memory that 1 GiB down adds", _more("big", "down"), None, "below", 32, "MiB"),
    Target("1 GiB up, beside ssh host cat", _big(GATEWAY, "up"), _big(OPENSSH, "up"), "at least", 0.7, of_sshd=True),
    Target("memory that 1 GiB up adds", _more("big", "up"), None, "below", 32, "MiB"),
    Target(
        "1 GiB up in parts by signed URLs, 16 at a time, beside ssh host cat",
        _big(GATEWAY, "parts"), _big(OPENSSH, "parts"), "at least", 0.7, of_sshd=True,
    ),
    Target("memory that 1 GiB up in parts adds", _more("big", "parts"), None, "below", 64, "MiB"),
    Target(
        "1 GiB down in parts by a signed URL, 16 at a time, beside ssh host cat",
        _big(GATEWAY, "parts down"), _big(OPENSSH, "parts down"), "at least", 0.7, of_sshd=True,
    ),
    Target("memory that 1 GiB down in parts adds", _more("big", "parts down"), None, "below", 64, "MiB"),
    *(
        Target(
            f"mover job that {what}{where}, beside curl alone",
            ("movers", GATEWAY, "MiB/s", direction + row), ("movers", CURL, "MiB/s", direction + row), "at least", 0.8,
        )
        for row, where in (("", ""), (", 1gbit", " over 1 Gbit/s"))
        for direction, what in (("fetch", "fetches an object"), ("send", "sends a file to a store"))
    ),
    Target("ticket for an upload of 1 TB, beside 64 clients", ("tickets", GATEWAY, "ms", 64), None, "below", 100, "ms"),
    Target("synchronization of 10,000 unchanged files", ("sync", GATEWAY, "seconds", 10_000), None, "below", 2, "s"),
    *(
        target
        for name, text in (("jobs", "list of jobs"), ("nodes", "nodes"), ("partitions", "partitions"))
        for target in (
            Target(
                f"{text} at 16 connections, beside (c)",
                _rate(name, GATEWAY, 16), _rate(name, "c", 16), "at least", 60, of_sshd=True,
            ),
            Target(
                f"{text} at 16 connections, beside stat",
                _rate(name, GATEWAY, 16), _rate("stat", GATEWAY, 16), "at least", 0.5,
            ),
        )
    ),
    Target(
        "200 pollers of 20 users: questions to slurmctld",
        _polled("questions to slurmctld a second"), None, "at most", 20, "a second",
    ),
    Target(
        "200 pollers of 20 users: questions to slurmdbd",
        _polled("questions to slurmdbd a second"), None, "at most", 2, "a second",
    ),
    Target("200 pollers of 20 users: 99th percentile, on a quiet machine", _polled("ms p99"), None, "below", 50, "ms"),
    Target(
        "stat of one user beside another one at full blast, within limits: 99th percentile",
        ("fair", GATEWAY, "ms p99", "beside a user at full blast"), ("fair", GATEWAY, "ms p99", "quiet"), "at most", 2,
    ),
    Target("latency that sharing adds to one poller", ("poller", GATEWAY, "ms added", 1), None, "at most", 5, "ms"),
    Target(
        "submission by sbatch, one by one, beside sbatch over a pooled connection (c)",
        _submitted(GATEWAY, "one by one"), _submitted("c", "one by one"), "at most", 1.2,
    ),
    Target(
        "submission by slurmrestd by 8 clients, beside by sbatch",
        _submitted(GATEWAY, "by 8 clients"), _submitted(REST, "by 8 clients"), "at least", 2,
    ),
    Target(
        "submission of 500 jobs in one request, beside one by one",
        _submitted(GATEWAY, "one by one"), _submitted(GATEWAY, "many at once"), "at least", 3,
    ),
    Target("list of 10,000 jobs", ("many-jobs", GATEWAY, "seconds", 10_000), None, "below", 1, "s"),
    Target("memory that lists of 10,000 jobs add", _more("many-jobs", 10_000), None, "below", 64, "MiB"),
    Target(
        "complete lives of jobs by 500 clients: that fail",
        ("lifecycle", GATEWAY, "clients that failed", 500), None, "at most", 0, "clients",
    ),
    Target(
        "cold start of 440 clients of 22 users, 10 calls each, beside a command over a pooled connection (c)",
        _cold("c"), _cold(GATEWAY), "at least", 8, of_sshd=True,
    ),
    Target(
        "1000 clients with keep-alive, warm stat at half of the peak: 99th percentile beside the median",
        ("keepalive", GATEWAY, "p99 : p50", 1000), None, "at most", 20,
    ),
    Target(
        "1000 clients, 0.5 to 2 s between two calls: 800 a second are served (98 % of them)",
        ("crowd", GATEWAY, "requests/s", "all"), None, "at least", 784, "a second",
    ),
    Target(
        "1000 clients, 0.5 to 2 s between two calls: 99th percentile, on a quiet machine",
        ("crowd", GATEWAY, "ms p99", "all"), None, "at most", 100, "ms",
    ),
    Target(
        "two workers beside one, simulated with 4 processors",
        ("workers", GATEWAY, "two workers : one", "4 processors"), None, "at least", 1.5,
    ),
    Target(
        "one of four login nodes ten times slower, simulated: 99th percentile beside healthy nodes",
        ("login-nodes", GATEWAY, "p99 : p99 of healthy nodes", "whole time"), None, "at most", 1.5,
    ),
    Target("soak: wrong responses", ("soak", GATEWAY, "wrong responses", "all"), None, "at most", 0, "responses"),
    Target("soak: growth of memory after warm-up", _soak("% of memory more"), None, "below", 5, "%"),
    *(
        Target(f"soak: {text}", _soak(f"{name} left"), None, "at most", 0, name)
        for name, text in (
            ("descriptors", "descriptors of the gateway that are left over"),
            ("channels", "SSH channels that are left over"),
            ("connections", "SSH connections that are left over"),
            ("processes", "processes of the users that are left over on the login node"),
        )
    ),
)  # fmt: skip


def comparison(results: Results) -> list[Target]:
    """One target per workload and row: the gateway must not be slower or larger than that of the other checkout."""
    found = []
    for cell in results.cells:
        if cell.contender == GATEWAY and cell.quantity in COMPARED:
            this, other = cell.at, (cell.workload, OTHER, cell.quantity, cell.parameter)
            of, by = (this, other) if cell.quantity in HIGHER_IS_BETTER else (other, this)
            text = f"{cell.workload} {cell.parameter}, {cell.quantity}: beside the other checkout"
            found.append(Target(text, of, by, "at least", NO_SLOWER, paired=True))
    return found


def judge(target: Target, results: Results, *, sandbox: bool = False) -> Verdict:
    """Compare with the limit. A target with wrong responses is missed, whatever the speed."""
    cells = [results.find(*place) for place in (target.of, target.by) if place is not None]
    measured = [cell for cell in cells if cell is not None]
    if len(measured) < len(cells) or (len(measured) > 1 and not measured[1].mean):
        return Verdict(target, None, None, "not measured")
    value = _value(target, *measured)
    notes = _notes(target, measured)
    if sandbox and target.of_sshd:
        return Verdict(target, value, None, "; ".join(["judged with real sshd only", *notes]))
    reached = {
        "at least": value >= target.limit,
        "at most": value <= target.limit,
        "below": value < target.limit,
    }[target.sense]
    return Verdict(target, value, reached and not any(cell.errors for cell in measured), "; ".join(notes))


def _value(target: Target, of: Cell, by: Cell | None = None) -> float:
    if by is None:
        return of.mean
    return median(_ratios(of, by)) if target.paired else of.mean / by.mean


def _ratios(of: Cell, by: Cell) -> list[float]:
    """The ratios of the samples of each turn, which are neighbours in time: other load affects both."""
    if len(of.samples) != len(by.samples):
        return [of.mean / by.mean]
    return [one / other if other else math.inf for one, other in zip(of.samples, by.samples, strict=True)]


def _notes(target: Target, cells: Sequence[Cell]) -> list[str]:
    notes = [f"({cell.contender}) {cell.note}" for cell in cells if cell.note]
    notes += [f"({cell.contender}) {cell.errors} wrong responses" for cell in cells if cell.errors]
    if target.paired and len(ratios := _ratios(*cells)) > 1:
        low, _, high = quantiles(ratios, method="inclusive")
        notes.append(f"half of {len(ratios)} turns between {low:.2f} and {high:.2f}")
    return notes
