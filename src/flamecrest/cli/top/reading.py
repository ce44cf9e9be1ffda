"""Reads the metrics of replicas, and computes what happened between two readings. Knows no terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

LARGEST: Final = 32 * 1024 * 1024  # bytes of the metrics of one replica

_REASONS: Final = {
    401: "needs a valid token (--token-file)",
    404: "has no metrics (they are on a port of their own: `metrics.port`, 9464 by default)",
}
Labels = frozenset[tuple[str, str]]
Values = dict[tuple[str, Labels], float]


@dataclass(frozen=True, slots=True)
class Reading:
    """The metrics of one replica at a monotonic time; `problem` says why there are none. `users`: open requests."""

    url: str
    taken: float
    values: Values = field(default_factory=dict)
    users: Mapping[str, int] | None = None
    problem: str | None = None


def read_all(urls: Sequence[str], token: str | None, timeout: float) -> list[Reading]:
    """A reading of each replica. All are asked at the same time, each for `timeout` seconds; none fails the others."""
    with ThreadPoolExecutor(max_workers=len(urls)) as threads:
        return list(threads.map(lambda url: _read(url, token, timeout), urls))


def _read(url: str, token: str | None, timeout: float) -> Reading:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    now = time.monotonic()
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False) as client:
            text = _text(client, "/metrics")
            now = time.monotonic()
            return Reading(url, now, parsed(text), _users(client))
    except httpx.HTTPStatusError as error:
        reason = _REASONS.get(error.response.status_code)
        return Reading(url, now, problem=reason or f"answers with status {error.response.status_code}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Reading(url, now, problem=f"does not answer: {_said(error)}")
    except ValueError:
        return Reading(url, now, problem="answers with something else than metrics")


def _said(error: Exception) -> str:
    text = str(error)
    if "Connection refused" in text:
        return "connection refused (does the gateway run, with `metrics` in its configuration?)"
    return text or type(error).__name__


def _text(client: httpx.Client, path: str) -> str:
    parts, size = [], 0
    with client.stream("GET", path) as answer:
        answer.raise_for_status()
        for part in answer.iter_bytes():
            size += len(part)
            if size > LARGEST:
                raise ValueError(size)
            parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")


def _users(client: httpx.Client) -> Mapping[str, int] | None:
    """The users with open requests; None where they are not shown."""
    answer = client.get("/users")
    if answer.status_code != 200:
        return None
    try:
        return {str(one["user"]): int(one["open"]) for one in answer.json()["users"]}
    except (KeyError, TypeError):
        raise ValueError(answer.url) from None


def parsed(text: str) -> Values:
    """The samples of a text in Prometheus's format. Raises ValueError."""
    try:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    except (IndexError, KeyError, AttributeError) as error:  # the parser's, for text that is something else
        raise ValueError(error) from None


class Change:
    """What happened between two readings of each replica, in all of them together.

    A counter that has become smaller began anew: the replica was restarted.
    """

    def __init__(self, before: Sequence[Reading], after: Sequence[Reading]) -> None:
        known = {one.url: one for one in before if one.problem is None}
        self._each = [reading.values for reading in after]
        self.now: Values = {}
        self.rates: Values = {}  # of everything, each second; meaningful for counters
        for reading in after:
            earlier = known.get(reading.url)
            for key, value in reading.values.items():
                self.now[key] = self.now.get(key, 0.0) + value
                if earlier is not None and reading.taken > earlier.taken:
                    previous = earlier.values.get(key, 0.0)
                    grown = value if value < previous else value - previous
                    self.rates[key] = self.rates.get(key, 0.0) + grown / (reading.taken - earlier.taken)

    def each(self) -> Iterator[tuple[tuple[str, Labels], float]]:
        """The values of each replica."""
        for values in self._each:
            yield from values.items()

    def gauge(self, name: str, **labels: str) -> float:
        """The sum of the values of now."""
        return sum(value for _, value in _matching(self.now, name, labels))

    def rate(self, name: str, **labels: str) -> float:
        """The sum of what counters grew by, each second."""
        return sum(value for _, value in _matching(self.rates, name, labels))

    def groups(self, name: str, label: str, *, now: bool = False) -> set[str]:
        """The values of a label of a metric."""
        return {dict(labels).get(label, "") for (one, labels) in (self.now if now else self.rates) if one == name}

    def mean(self, name: str, **labels: str) -> float | None:
        """The mean of what a histogram counted between the readings; None without any."""
        count = self.rate(f"{name}_count", **labels)
        return self.rate(f"{name}_sum", **labels) / count if count > 0 else None

    def quantile(self, name: str, share: float, **labels: str) -> float | None:
        """A quantile of what a histogram counted between the readings; None without any."""
        buckets: dict[float, float] = {}
        for of, value in _matching(self.rates, f"{name}_bucket", labels):
            bound = float(of.get("le", "inf"))
            buckets[bound] = buckets.get(bound, 0.0) + value
        return quantile(sorted(buckets.items()), share)


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """A quantile by cumulative numbers of values, as Prometheus's histogram_quantile; None without values."""
    total = buckets[-1][1] if buckets else 0.0
    if not total > 0:
        return None
    wanted, lower, below = share * total, 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            if math.isinf(bound) or count == below:
                return lower
            return lower + (bound - lower) * (wanted - below) / (count - below)
        lower, below = bound, count
    return lower


def _matching(values: Values, name: str, labels: Mapping[str, str]) -> Iterator[tuple[dict[str, str], float]]:
    for (one, of), value in values.items():
        if one == name and labels.items() <= set(of):
            yield dict(of), value


def users_of(readings: Iterable[Reading]) -> dict[str, int] | None:
    """The open requests of each user in all replicas; None if none of them shows its users."""
    shown = [reading.users for reading in readings if reading.users is not None]
    if not shown:
        return None
    total: dict[str, int] = {}
    for users in shown:
        for user, count in users.items():
            total[user] = total.get(user, 0) + count
    return total
