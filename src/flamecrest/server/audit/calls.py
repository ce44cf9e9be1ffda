"""What the audit log records of a call: who, from where, what, how it was decided and how it ended. Knows no HTTP.

Recorded are calls that were allowed a verb that changes something, changes of the gateway's own tokens, and denials: by
the authenticator, by a rule, or by the cluster. With `reads`, all calls that were decided about.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.errors import Unavailable
from flamecrest.server.telemetry.redact import redact
from flamecrest.server.telemetry.trace import current_trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.server.auth.port import AccessRequest, Decision
    from flamecrest.server.telemetry.counters import Sample
    from flamecrest.server.telemetry.trace import Trace

    from .writer import AuditWriter

CHANGING: Final = frozenset({Verb.JOBS_SUBMIT, Verb.FILES_WRITE, Verb.TRANSFER})
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
DENIALS: Final = frozenset({401, 403})  # statuses: by the token, by a rule, or by the cluster
MOST_DECISIONS: Final = 50  # of a request that are recorded
MOST_TARGETS: Final = 50  # paths and jobs of a request, all decisions together
LONGEST: Final = 1024  # characters of a text

_LOST: Final = "The audit log cannot be written at the moment, and nothing is changed without it. Retry later."


class Audit:
    """The audit log of a gateway."""

    def __init__(self, writer: AuditWriter, *, reads: bool = False) -> None:
        self._writer = writer
        self._reads = reads

    def samples(self) -> list[Sample]:
        """What waits to be written now, as metrics."""
        return self._writer.samples()

    @property
    def failing(self) -> bool:
        """Whether records cannot be written now: they wait in memory."""
        return self._writer.failing

    @property
    def refuses(self) -> bool:
        """Whether so many records wait that calls are refused that would change something."""
        return self._writer.behind

    def decided(self, request: AccessRequest, decision: Decision) -> None:
        """Note a decision for the call that is being served. Raises Unavailable if records cannot be written."""
        trace = current_trace.get()
        if trace is None:
            return  # the gateway's own probes
        if trace.decisions is None:
            trace.decisions = []
        trace.decisions.append((request, decision))
        if decision.allowed and _changes(request, trace.method) and self.refuses:
            raise Unavailable(_LOST)

    def ended(self, trace: Trace, address: str) -> None:
        """Record a call that has ended, if it is one to record. `address` is that of the client."""
        decisions = trace.decisions or []
        undecided = trace.decisions == []  # a change of something that is the caller's own: a narrow token
        denied = trace.status in DENIALS or any(not decision.allowed for _, decision in decisions)
        changes = any(one.allowed and _changes(request, trace.method) for request, one in decisions)
        if denied or changes or undecided or (self._reads and decisions):
            self._writer.add(_record(trace, address, denied=denied), changes=changes or undecided)


def _changes(request: AccessRequest, method: str) -> bool:
    return request.verb in CHANGING and method not in SAFE_METHODS


def _record(trace: Trace, address: str, *, denied: bool) -> dict[str, Any]:
    identity = trace.identity if isinstance(trace.identity, Identity) else None
    return {
        "ts": datetime.now(UTC).isoformat(timespec="microseconds"),
        "event": "denial" if denied else "call",
        "request_id": trace.request_id,
        "correlation_id": trace.correlation_id,
        "from": address,
        "user": trace.user,
        "subject": None if identity is None else identity.subject or None,
        "issuer": None if identity is None else identity.issuer or None,
        "client": None if identity is None else identity.client or None,
        "token_id": None if identity is None else _token_id(identity),
        "method": trace.method,
        "route": trace.route,
        "cluster": trace.cluster,
        **_decisions(trace.decisions or []),
        "status": trace.status,
        "error": trace.error,
        "reason": None if trace.detail is None else _cut(redact(trace.detail)),
        "certificate_serial": None if trace.certificate_serial is None else str(trace.certificate_serial),
    }


def _token_id(identity: Identity) -> str | None:
    value = identity.claims.get("jti")
    return _cut(value) if isinstance(value, str) else None


def _decisions(decisions: Sequence[tuple[AccessRequest, Decision]]) -> dict[str, Any]:
    """All decisions, denials first; of many the first ones, and how many there were."""
    ordered = sorted(decisions, key=lambda one: one[1].allowed)
    targets = MOST_TARGETS
    shown = []
    for request, decision in ordered[:MOST_DECISIONS]:
        shown.append(_decision(request, decision, targets))
        targets = max(0, targets - len(request.paths) - len(request.sources) - len(request.jobs))
    return {"decisions": shown} | ({"decisions_count": len(ordered)} if len(ordered) > len(shown) else {})


def _decision(request: AccessRequest, decision: Decision, most: int) -> dict[str, Any]:
    """A decision; of more than `most` targets of a kind the first ones, and how many there were."""
    shown: dict[str, Any] = {"verb": request.verb.value, "cluster": request.cluster}
    for name, values in (("paths", request.paths), ("sources", request.sources), ("jobs", request.jobs)):
        if values:
            shown[name] = [_cut(redact(one)) for one in values[:most]]
            if len(values) > most:
                shown[f"{name}_count"] = len(values)
    shown |= {"allowed": decision.allowed, "rule": decision.rule, "reason": _cut(redact(decision.reason))}
    return shown


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
