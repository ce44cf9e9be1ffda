"""What `flamecrest top` shows: tables of replicas, clusters, operations and users."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from .reading import Change, users_of

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from .reading import Reading

MOST_OPERATIONS: Final = 12
MOST_USERS: Final = 12
# What is left out of tables that are wider than the terminal, the first one first.
LESS_IMPORTANT: Final = (
    "version", "queue", "connect", "remote", "saved/s", "asked/s", "channels", "out/s", "mean", "p50", "loop p99",
    "waiting", "ssh", "cpu", "open",
)  # fmt: skip

_REQUESTS: Final = "flamecrest_http_requests_total"
_DURATION: Final = "flamecrest_http_request_duration_seconds"
_PHASE: Final = "flamecrest_request_phase_seconds"


def screen(before: Sequence[Reading], after: Sequence[Reading]) -> RenderableType:
    """The whole view of two readings of all replicas."""
    change, users = Change(before, after), users_of(after)
    parts = [_summary(change, after), _replicas(before, after), _clusters(change), _operations(change)]
    if users is not None:
        parts.append(_users(users))
    return Group(*parts)


def _summary(change: Change, readings: Sequence[Reading]) -> RenderableType:
    up = sum(reading.problem is None for reading in readings)
    rate, failed = change.rate(_REQUESTS), _failed(change)
    line = Text.assemble(
        ("flamecrest top", "bold"),
        f"   {up} of {len(readings)} replicas   {number(rate)} requests/s   ",
        (f"{number(failed)} failed/s", "bold red" if failed > 0 else ""),
        f"   {number(change.gauge('flamecrest_http_requests_open'))} open"
        f"   {number(change.gauge('flamecrest_http_users_active'))} users",
    )
    more = [
        f"in {size(change.rate('flamecrest_http_received_bytes_total'))}/s",
        f"out {size(change.rate('flamecrest_http_sent_bytes_total'))}/s",
        f"transfers {number(change.gauge('flamecrest_transfers_running'))}",
        f"refused by limits {number(change.rate('flamecrest_limits_refusals_total'))}/s",
    ]
    if lag := change.gauge("flamecrest_audit_lag_seconds"):
        more.append(f"audit lag {lag:.1f} s")
    down = _gateway_services_down(change)
    return Group(line, Text("   ".join(more), style="dim"), *([down] if down else []))


def _gateway_services_down(change: Change) -> Text | None:
    """The token issuers and OpenFGA that some replica cannot reach."""
    down = {
        f"{of.get('service', '')} {of.get('target', '')}".strip()
        for (name, labels), value in change.now.items()
        for of in [dict(labels)]
        if name == "flamecrest_service_healthy" and value == 0 and not of.get("cluster")
    }
    return Text(clean(f"down: {', '.join(sorted(down))}"), style="bold red") if down else None


def _failed(change: Change, **labels: str) -> float:
    """Responses each second that say that the server has failed."""
    statuses = change.groups(_REQUESTS, "status")
    return sum(change.rate(_REQUESTS, status=status, **labels) for status in statuses if status.startswith("5"))


def _replicas(before: Sequence[Reading], after: Sequence[Reading]) -> RenderableType:
    table = _table("replica", "version", "requests/s", "open", "cpu", "memory", "loop p99")
    for reading in after:
        if reading.problem is not None:
            continue
        own = Change(before, [reading])
        table.add_row(
            Text(clean(reading.url)),
            Text(clean(", ".join(sorted(own.groups("flamecrest_build_info", "version", now=True))))),
            number(own.rate(_REQUESTS)),
            number(own.gauge("flamecrest_http_requests_open")),
            f"{100 * own.rate('process_cpu_seconds_total'):.0f} %",
            size(own.gauge("process_resident_memory_bytes")),
            milliseconds(own.quantile("flamecrest_event_loop_delay_seconds", 0.99)),
        )
    problems = [
        Text(f"{clean(reading.url)} {clean(reading.problem)}", style="bold red")
        for reading in after
        if reading.problem is not None
    ]
    return Group(Fitting(table), *problems) if table.row_count else Group(*problems)


def _clusters(change: Change) -> RenderableType:
    table = _table(
        "cluster", "requests/s", "failed/s", "p50", "p99", "queue", "connect", "remote", "ssh", "channels", "waiting",
        "asked/s", "saved/s", "services",
    )  # fmt: skip
    names = change.groups("flamecrest_ssh_connections", "cluster", now=True)
    for name in sorted(names):
        failed, waiting = _failed(change, cluster=name), change.gauge("flamecrest_ssh_requests_waiting", cluster=name)
        connections = change.gauge("flamecrest_ssh_connections", cluster=name)
        table.add_row(
            Text(clean(name), style="bold"),
            number(change.rate(_REQUESTS, cluster=name)),
            Text(number(failed), style="bold red" if failed > 0 else ""),
            *(milliseconds(change.quantile(_DURATION, share, cluster=name)) for share in (0.5, 0.99)),
            *(milliseconds(change.mean(_PHASE, phase=one, cluster=name)) for one in ("queue", "connect", "remote")),
            number(connections),
            number(change.gauge("flamecrest_ssh_channels", cluster=name)),
            Text(number(waiting), style="bold yellow" if waiting > 0 else ""),
            number(change.rate("flamecrest_scheduler_questions_total", cluster=name)),
            number(change.rate("flamecrest_scheduler_questions_saved_total", cluster=name)),
            _services(change, name),
        )
    return Fitting(table)


def _services(change: Change, cluster: str) -> Text:
    """The services that are down on some replica, or that all are up."""
    down, known = set(), False
    for (name, labels), value in change.now.items():
        of = dict(labels)
        if of.get("cluster") != cluster or name not in {"flamecrest_service_healthy", "flamecrest_service_refused"}:
            continue
        known = True
        service = f"{of.get('service', '')} {of.get('target', '')}".strip()
        if name == "flamecrest_service_refused" and value > 0:
            down.add(f"{service} refused")
    if down:
        return Text(clean(", ".join(sorted(down))), style="bold red")
    return Text("up", style="green") if known else Text("not probed", style="dim")


def _operations(change: Change) -> RenderableType:
    table = _table("operation", "cluster", "requests/s", "failed/s", "mean", "p99", "out/s")
    found: dict[tuple[str, str, str], float] = {}
    for (name, labels), value in change.rates.items():
        if name == f"{_DURATION}_count" and value > 0:
            of = dict(labels)
            found[of.get("method", ""), of.get("route", ""), of.get("cluster", "")] = value
    ordered = sorted(found, key=lambda one: (-found[one], one))
    for method, route, cluster in ordered[:MOST_OPERATIONS]:
        own = {"method": method, "route": route, "cluster": cluster}
        table.add_row(
            Text(clean(f"{method} {route}" if route else f"{method} (no route)")),
            Text(clean(cluster)),
            number(found[method, route, cluster]),
            number(_failed(change, **own)),
            milliseconds(change.mean(_DURATION, **own)),
            milliseconds(change.quantile(_DURATION, 0.99, **own)),
            size(change.rate("flamecrest_http_sent_bytes_total", **own)),
        )
    if len(ordered) > MOST_OPERATIONS:
        table.add_row(Text(f"and {len(ordered) - MOST_OPERATIONS} more", style="dim"))
    return Fitting(table)


def _users(users: dict[str, int]) -> RenderableType:
    table = _table("user", "open requests")
    ordered = sorted(users, key=lambda user: (-users[user], user))
    for user in ordered[:MOST_USERS]:
        table.add_row(Text(clean(user)), number(users[user]))
    if not ordered:
        table.add_row(Text("none", style="dim"))
    if len(ordered) > MOST_USERS:
        table.add_row(Text(f"and {len(ordered) - MOST_USERS} more", style="dim"))
    return Fitting(table)


class Fitting:
    """A table without the columns for which the terminal is too narrow; headings and numbers are never broken."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = copy.copy(self._table)
        table.columns = list(table.columns)
        unlimited = options.update(max_width=100_000)
        for name in LESS_IMPORTANT:
            if Measurement.get(console, unlimited, table).maximum <= options.max_width:
                break
            table.columns = [column for column in table.columns if column.header != name]
        yield table


def _table(first: str, *columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold cyan")
    table.add_column(first, overflow="fold")
    for column in columns:
        left = column in {"version", "services"} or (column == "cluster")
        table.add_column(column, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    return table


def clean(text: str) -> str:
    """A text without characters that a terminal would act on."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def number(value: float) -> str:
    """A number with about three digits."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.1 else f"{value:.2f}"


def milliseconds(seconds: float | None) -> str:
    """A time; `-` for none."""
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def size(value: float) -> str:
    """A number of bytes."""
    units = ["TB", "GB", "MB", "kB", "B"]
    while value >= 1000 and len(units) > 1:
        value, _ = value / 1000, units.pop()
    return f"{value:.0f} {units[-1]}" if units[-1] == "B" or value >= 100 else f"{value:.1f} {units[-1]}"
