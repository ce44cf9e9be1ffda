"""The metrics of a gateway: name, type, labels and meaning of each, and which of them a component's counter is.

The table of docs/operators/metrics.md is made from this one, and a test compares the counters of all components with
it. Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` for what only grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric. `labels` are the names of its labels, in the order of their values in a sample."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


_OF_ROUTE = ("method", "route", "cluster")
_OF_CLUSTER = ("cluster",)
_OF_SERVICE = ("cluster", "service", "target")

METRICS: Final = {
    metric.name: metric
    for metric in (
        Metric("flamecrest_build_info", "gauge", ("version",), "The version of the gateway; the value is 1."),
        Metric("flamecrest_http_requests_total", "counter", (*_OF_ROUTE, "status"), "Requests that have ended."),
        Metric(
            "flamecrest_http_request_duration_seconds",
            "histogram",
            _OF_ROUTE,
            "Time from a request's head to the end of its response.",
        ),
        Metric("flamecrest_http_requests_open", "gauge", (), "Requests that are being served."),
        Metric("flamecrest_http_users_active", "gauge", (), "Users with open requests."),
        Metric("flamecrest_http_received_bytes_total", "counter", _OF_ROUTE, "Bytes of request bodies."),
        Metric("flamecrest_http_sent_bytes_total", "counter", _OF_ROUTE, "Bytes of response bodies."),
        Metric("flamecrest_http_errors_total", "counter", ("error", "cluster"), "Requests that failed, by error kind."),
        Metric(
            "flamecrest_request_phase_seconds",
            "histogram",
            ("phase", "cluster"),
            "Time of requests by phase: `auth` (token), `queue` (wait for an SSH channel), `connect` (wait for an SSH "
            "connection to be opened), `remote` (wait for the cluster), `render` (the gateway's own work and the "
            "client's network). A phase that a request does not have is not counted.",
        ),
        Metric("flamecrest_ssh_connections", "gauge", _OF_CLUSTER, "Open SSH connections."),
        Metric("flamecrest_ssh_connections_idle", "gauge", _OF_CLUSTER, "Of these, those that are not in use."),
        Metric("flamecrest_ssh_connections_dialing", "gauge", _OF_CLUSTER, "SSH connections that are being opened."),
        Metric("flamecrest_ssh_connections_opened_total", "counter", _OF_CLUSTER, "SSH connections opened."),
        Metric(
            "flamecrest_ssh_connections_replaced_total",
            "counter",
            _OF_CLUSTER,
            "SSH connections lost or silent in use.",
        ),
        Metric("flamecrest_ssh_channels", "gauge", _OF_CLUSTER, "SSH channels in use."),
        Metric("flamecrest_ssh_channels_ahead", "gauge", _OF_CLUSTER, "Shells started ahead, for the next command."),
        Metric("flamecrest_ssh_channels_opened_total", "counter", _OF_CLUSTER, "SSH channels opened."),
        Metric("flamecrest_ssh_channels_refused_total", "counter", _OF_CLUSTER, "SSH channels that a server refused."),
        Metric("flamecrest_ssh_shared_uses", "gauge", _OF_CLUSTER, "Requests that use shared channels (SFTP, agent)."),
        Metric("flamecrest_ssh_requests_waiting", "gauge", _OF_CLUSTER, "Requests that wait for an SSH channel."),
        Metric(
            "flamecrest_ssh_requests_refused_total",
            "counter",
            ("cluster", "reason"),
            "Requests that may not wait for an SSH channel: `late` (not before their deadline, as far as is known), "
            "`user` (too many of one user wait), `full` (too many of all users).",
        ),
        Metric("flamecrest_ssh_messages_total", "counter", ("cluster", "direction"), "SSH messages."),
        Metric("flamecrest_ssh_bytes_total", "counter", ("cluster", "direction"), "Bytes of data in SSH channels."),
        Metric(
            "flamecrest_scheduler_questions_total",
            "counter",
            ("cluster", "question"),
            "Questions that were put to the scheduler.",
        ),
        Metric(
            "flamecrest_scheduler_questions_saved_total",
            "counter",
            ("cluster", "question"),
            "Requests that were served by the answer to an earlier question, or to one under way.",
        ),
        Metric(
            "flamecrest_scheduler_failures_total",
            "counter",
            ("cluster", "source"),
            "Questions to the scheduler that failed without failing a request.",
        ),
        Metric(
            "flamecrest_scheduler_unreadable_rows_total",
            "counter",
            ("cluster", "source"),
            "Rows of the scheduler's output that could not be read.",
        ),
        Metric(
            "flamecrest_scheduler_unknown_states_total",
            "counter",
            ("cluster", "source"),
            "Jobs in a state that this version does not know.",
        ),
        Metric("flamecrest_auth_cache_hits_total", "counter", (), "Tokens found in the cache."),
        Metric("flamecrest_auth_tokens_accepted_total", "counter", (), "New tokens accepted."),
        Metric("flamecrest_auth_verifications_total", "counter", (), "Signatures of tokens verified."),
        Metric("flamecrest_auth_tokens_cached", "gauge", (), "Tokens in the cache."),
        Metric("flamecrest_auth_keys", "gauge", (), "Keys of issuers that are trusted."),
        Metric("flamecrest_auth_key_fetches_total", "counter", (), "Reads of the issuers' keys."),
        Metric("flamecrest_auth_introspections_total", "counter", (), "Requests to introspection endpoints."),
        Metric("flamecrest_openfga_checks_total", "counter", (), "Decisions that OpenFGA was needed for."),
        Metric("flamecrest_openfga_cached_total", "counter", (), "Of these, those answered from the cache."),
        Metric("flamecrest_openfga_requests_total", "counter", (), "Requests to the OpenFGA server."),
        Metric("flamecrest_openfga_failures_total", "counter", (), "Of these, those without a usable answer."),
        Metric(
            "flamecrest_service_healthy",
            "gauge",
            _OF_SERVICE,
            "1 if a service is known to be up, else 0. `target` is the path of a file system, or a token issuer. "
            "`cluster` is empty for token issuers and OpenFGA.",
        ),
        Metric("flamecrest_service_probe_seconds", "gauge", _OF_SERVICE, "Duration of the last probe."),
        Metric(
            "flamecrest_service_refused", "gauge", _OF_SERVICE, "1 while requests for the service are refused, else 0."
        ),
        Metric(
            "flamecrest_limits_refusals_total", "counter", ("party", "limit"), "Requests refused by a configured limit."
        ),
        Metric("flamecrest_transfers_running", "gauge", (), "Transfers that this process works on."),
        Metric("flamecrest_transfers_followed", "gauge", (), "Transfers whose end this process waits for."),
        Metric(
            "flamecrest_transfers_started_total", "counter", (), "Transfers that this process has begun to work on."
        ),
        Metric("flamecrest_audit_records_waiting", "gauge", (), "Audit records that are not written yet."),
        Metric("flamecrest_audit_lag_seconds", "gauge", (), "Time for which the oldest of these has been waiting."),
        Metric("flamecrest_audit_destinations_failing", "gauge", (), "Destinations of the audit log that fail."),
        Metric("flamecrest_audit_failures_total", "counter", (), "Attempts to write audit records that have failed."),
        Metric(
            "flamecrest_audit_records_left_out_total",
            "counter",
            (),
            "Audit records of denials and reads of which only the number was recorded.",
        ),
        Metric(
            "flamecrest_event_loop_delay_seconds",
            "histogram",
            (),
            "How late a timer of the process ran: work in one piece, or a busy processor, delays all requests by it.",
        ),
    )
}


def table() -> str:
    """All metrics as a table in Markdown."""
    rows = [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.help} |"
        for one in METRICS.values()
    ]
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows])


# Counters of components: component and name, the metric, and the values of its labels after `cluster`.
COUNTERS: Final[dict[tuple[str, str], tuple[str, tuple[str, ...]]]] = {
    ("pool", "connections"): ("flamecrest_ssh_connections", ()),
    ("pool", "idle"): ("flamecrest_ssh_connections_idle", ()),
    ("pool", "channels"): ("flamecrest_ssh_channels", ()),
    ("pool", "ahead"): ("flamecrest_ssh_channels_ahead", ()),
    ("pool", "shared"): ("flamecrest_ssh_shared_uses", ()),
    ("pool", "waiting"): ("flamecrest_ssh_requests_waiting", ()),
    ("pool", "dialing"): ("flamecrest_ssh_connections_dialing", ()),
    ("pool", "opened"): ("flamecrest_ssh_connections_opened_total", ()),
    ("pool", "replaced"): ("flamecrest_ssh_connections_replaced_total", ()),
    ("pool", "refusals"): ("flamecrest_ssh_channels_refused_total", ()),
    ("pool", "refused_late"): ("flamecrest_ssh_requests_refused_total", ("late",)),
    ("pool", "refused_of_user"): ("flamecrest_ssh_requests_refused_total", ("user",)),
    ("pool", "refused_full"): ("flamecrest_ssh_requests_refused_total", ("full",)),
    ("pool", "channels_opened"): ("flamecrest_ssh_channels_opened_total", ()),
    ("pool", "messages_sent"): ("flamecrest_ssh_messages_total", ("sent",)),
    ("pool", "messages_received"): ("flamecrest_ssh_messages_total", ("received",)),
    ("pool", "bytes_sent"): ("flamecrest_ssh_bytes_total", ("sent",)),
    ("pool", "bytes_received"): ("flamecrest_ssh_bytes_total", ("received",)),
    ("authenticator", "hits"): ("flamecrest_auth_cache_hits_total", ()),
    ("authenticator", "accepted"): ("flamecrest_auth_tokens_accepted_total", ()),
    ("authenticator", "verifications"): ("flamecrest_auth_verifications_total", ()),
    ("authenticator", "cached"): ("flamecrest_auth_tokens_cached", ()),
    ("authenticator", "keys"): ("flamecrest_auth_keys", ()),
    ("authenticator", "fetches"): ("flamecrest_auth_key_fetches_total", ()),
    ("authenticator", "introspections"): ("flamecrest_auth_introspections_total", ()),
    ("openfga", "checks"): ("flamecrest_openfga_checks_total", ()),
    ("openfga", "cached"): ("flamecrest_openfga_cached_total", ()),
    ("openfga", "requests"): ("flamecrest_openfga_requests_total", ()),
    ("openfga", "failures"): ("flamecrest_openfga_failures_total", ()),
    ("transfers", "running"): ("flamecrest_transfers_running", ()),
    ("transfers", "followed"): ("flamecrest_transfers_followed", ()),
    ("transfers", "started"): ("flamecrest_transfers_started_total", ()),
}

# The last part of a scheduler's counter (`queue.asked`, `live.unknown_states.STATE`), and its metric.
SCHEDULER: Final = {
    "asked": "flamecrest_scheduler_questions_total",
    "saved": "flamecrest_scheduler_questions_saved_total",
    "failures": "flamecrest_scheduler_failures_total",
    "unreadable_rows": "flamecrest_scheduler_unreadable_rows_total",
    "unknown_states": "flamecrest_scheduler_unknown_states_total",
}
