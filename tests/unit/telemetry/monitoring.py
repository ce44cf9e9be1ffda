"""The queries of the Grafana dashboard and of the alert rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[3] / "deploy" / "monitoring"
ALERTS = FOLDER / "alerts.yml"
DASHBOARD = FOLDER / "grafana-dashboard.json"


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return found


def dashboard_queries() -> list[str]:
    """All queries, with the values that Grafana would put in place of its variables."""
    found = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    values = {"__rate_interval": "1m", "cluster": ".*", "job": ".*"}
    return [re.sub(r"\$(\w+)", lambda variable: values[variable[1]], query) for query in found]


def alert_queries() -> list[str]:
    return [rule["expr"] for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]


def metric_names(query: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics of a query, each with the labels that it is selected or grouped by."""
    for name, selector in re.findall(r"\b((?:flamecrest|process|python)_\w+|up)(\{[^}]*\})?", query):
        yield name, set(re.findall(r"(\w+)\s*[=!]", selector))
