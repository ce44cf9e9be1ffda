"""What `flamecrest top` shows: tables of replicas, clusters, operations and users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.text import Text

from .reading import Change, users_of
from .tables import Fitting, clean, milliseconds, number, size

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from .reading import Reading

MOST_OPERATIONS: Final = 12
MOST_USERS: Final = 12
ALL: Final = 1_000_000
# What is left out of tables that are wider than the terminal, the first one first.
LESS_IMPORTANT: Final = (
    "version", "queue", "connect", "remote", "saved/s", "asked/s", "channels", "out/s", "mean", "p50", "loop p99",
    "waiting", "ssh", "cpu", "open",
)  # fmt: skip

_REQUESTS: Final = "flamecrest_http_requests_total"
_DURATION: Final = "flamecrest_http_request_duration_seconds"
_PHASE: Final = "flamecrest_request_phase_seconds"
_BAD: Final = "bold red"


class View:
    """The whole view of two readings of all replicas. A screen that is too low shows fewer rows of each table."""

    def __init__(self, before: Sequence[Reading], after: Sequence[Reading], hint: str = "") -> None:
        self._before, self._after, self._hint = before, after, hint
        self._change, self._users = Change(before, after), users_of(after)
        self._most = {"clusters": ALL, "operations": MOST_OPERATIONS, "users": MOST_USERS}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        most, height = dict(self._most), options.height
        free = options.update(height=None)
        parts = self._parts(most)
        while height is not None and (excess := _height(parts, console, free) - height) > 0:
            for name, part in parts.items():  # what is shown now
                if name in most and isinstance(part, Fitting):
                    most[name] = len(part.rows)
            if not _take_rows(most, excess):
                break
            parts = self._parts(most)
        yield Group(*parts.values())

    def _parts(self, most: dict[str, int]) -> dict[str, RenderableType]:
        """The parts that are shown, by name, with at most so many rows each."""
        change, after = self._change, self._after
        parts: dict[str, RenderableType | None] = {"summary": _summary(change, after, self._hint)}
        parts["replicas"] = _replicas(self._before, after)
        if any(reading.problem is None for reading in after):
            parts["clusters"] = _clusters(change, most["clusters"])
            parts["operations"] = _operations(change, most["operations"])
            if self._users is not None:
                parts["users"] = _users(self._users, most["users"])
        return {name: part for name, part in parts.items() if part is not None}


def _height(parts: dict[str, RenderableType], console: Console, options: ConsoleOptions) -> int:
    return len(console.render_lines(Group(*parts.values()), options, pad=False))


def _take_rows(most: dict[str, int], count: int) -> bool:
    """Take so many rows from the longest tables, down to none of users and operations; False if nothing is left."""
    taken = False
    for _ in range(count):
        name = max(most, key=lambda one: (most[one], one))
        if most[name] <= (1 if name == "clusters" else 0):
            return taken
        most[name] -= 1
        taken = True
    return taken


def _summary(change: Change, readings: Sequence[Reading], hint: str) -> RenderableType:
    up = sum(reading.problem is None for reading in readings)
    replicas = f"{up} of {len(readings)} replica{'' if len(readings) == 1 else 's'}"
    if not up:
        return Text.assemble((replicas, "bold red"), ("   " + hint if hint else "", "dim"))
    rate, failed = change.rate(_REQUESTS), _failed(change)
    line = Text.assemble(
        (replicas, "bold"),
        f"   {number(rate)} requests/s   ",
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
    if hint:
        more.append(hint)
    down = _gateway_services_down(change)
    return Group(line, Text("   ".join(more), style="dim"), *([down] if down else []))


def _gateway_services_down(change: Change) -> Text | None:
    """The token issuers and OpenFGA that some replica cannot reach."""
    down = {
        f"{of.get('service', '')} {of.get('target', '')}".strip()
        for (name, labels), value in change.each()
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
        table.add(
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
    return Group(table, *problems) if table.rows else Group(*problems)


def _clusters(change: Change, most: int) -> Fitting | None:
    table = _table(
        "cluster", "requests/s", "failed/s", "p50", "p99", "queue", "connect", "remote", "ssh", "channels", "waiting",
        "asked/s", "saved/s", "services", long="services",
    )  # fmt: skip
    names = sorted(change.groups("flamecrest_ssh_connections", "cluster", now=True))
    services = {name: _services(change, name) for name in names}
    shown = sorted(names, key=lambda one: (services[one].style != _BAD, -change.rate(_REQUESTS, cluster=one)))[:most]
    for name in sorted(shown):
        failed, waiting = _failed(change, cluster=name), change.gauge("flamecrest_ssh_requests_waiting", cluster=name)
        connections = change.gauge("flamecrest_ssh_connections", cluster=name)
        table.add(
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
            services[name],
        )
    table.more = _and_more(len(names) - len(shown), "cluster")
    return table if names else None


def _services(change: Change, cluster: str) -> Text:
    """The services that are refused on some replica, those whose last probe failed, or that all are up."""
    found: dict[str, set[str]] = {"flamecrest_service_healthy": set(), "flamecrest_service_refused": set()}
    known = False
    for (name, labels), value in change.each():
        of = dict(labels)
        if of.get("cluster") != cluster or name not in found:
            continue
        known = True
        if (value == 0) == (name == "flamecrest_service_healthy"):
            found[name].add(f"{of.get('service', '')} {of.get('target', '')}".strip())
    refused = found["flamecrest_service_refused"]
    failing = found["flamecrest_service_healthy"] - refused
    parts = [("refused: ", refused), ("probe failed: ", failing)]
    text = "; ".join(says + ", ".join(sorted(names)) for says, names in parts if names)
    if text:
        return Text(clean(text), style=_BAD if refused else "bold yellow")
    return Text("up", style="green") if known else Text("not probed", style="dim")


def _operations(change: Change, most: int) -> RenderableType | None:
    table = _table("operation", "cluster", "requests/s", "failed/s", "mean", "p99", "out/s")
    found: dict[tuple[str, str, str], float] = {}
    for (name, labels), value in change.rates.items():
        if name == f"{_DURATION}_count" and value > 0:
            of = dict(labels)
            found[of.get("method", ""), of.get("route", ""), of.get("cluster", "")] = value
    if not found:
        return Text("no requests in this interval", style="dim")
    if not most:
        return None
    ordered = sorted(found, key=lambda one: (-found[one], one))
    for method, route, cluster in ordered[:most]:
        own = {"method": method, "route": route, "cluster": cluster}
        failed = _failed(change, **own)
        table.add(
            Text(clean(f"{method} {route}" if route else f"{method} (no route)")),
            Text(clean(cluster)),
            number(found[method, route, cluster]),
            Text(number(failed), style="bold red" if failed > 0 else ""),
            milliseconds(change.mean(_DURATION, **own)),
            milliseconds(change.quantile(_DURATION, 0.99, **own)),
            size(change.rate("flamecrest_http_sent_bytes_total", **own)),
            shorter=Text(clean(f"{method} {_short(route)}")),
        )
    table.more = _and_more(len(ordered) - most, "operation")
    return table


def _short(route: str) -> str:
    """The end of a route, which says what is done: `…/ops/stat` for `/filesystem/{system_name}/ops/stat`."""
    _, found, end = route.partition("/{system_name}")
    return f"…{end}" if found and end else route or "(no route)"


def _users(users: dict[str, int], most: int) -> RenderableType | None:
    table = _table("user", "open requests")
    ordered = sorted(users, key=lambda user: (-users[user], user))
    if not ordered:
        return Text("no user with an open request", style="dim")
    if not most:
        return None
    for user in ordered[:most]:
        table.add(Text(clean(user)), number(users[user]))
    table.more = _and_more(len(ordered) - most, "user")
    return table


def _and_more(count: int, what: str) -> str:
    return f"and {count} more {what}{'' if count == 1 else 's'}" if count > 0 else ""


def _table(*columns: str, long: str = "") -> Fitting:
    return Fitting(columns, LESS_IMPORTANT, frozenset({"version", "services", "cluster"}), long)
