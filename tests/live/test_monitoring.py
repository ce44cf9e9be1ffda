"""The alert rules and the dashboard's queries in a real Prometheus that scrapes a gateway."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.centre import Centre
from tests.unit.telemetry.monitoring import ALERTS, alert_queries, dashboard_queries

from .process import free_port, gateway

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="apt-get install prometheus"),
]


def test_promtool_accepts_the_alert_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# An alert, the series that bring it about (promtool's notation: a start, a step, a number of steps), the minute in
# which it is there and was not before, and a part of its summary.
ALARMS = [
    ("FlamecrestDown", {'up{job="flamecrest", instance="gw1"}': "0x20"}, 3, "gw1 does not answer"),
    (
        "FlamecrestFailing",
        {
            'flamecrest_http_requests_total{cluster="daint", status="500"}': "0+60x30",
            'flamecrest_http_requests_total{cluster="daint", status="200"}': "0+60x30",
            'flamecrest_http_requests_total{cluster="alps", status="200"}': "0+60x30",
        },
        10,
        "50% of the requests to cluster daint fail",
    ),
    (
        "FlamecrestServiceRefused",
        {'flamecrest_service_refused{cluster="daint", service="filesystem", target="/home"}': "1x20"},
        3,
        "filesystem /home of daint is down",
    ),
    (
        "FlamecrestAuthenticationDown",
        {
            'flamecrest_service_healthy{cluster="", service="issuer", target="https://id.example.org"}': "0x20",
            'flamecrest_service_healthy{cluster="daint", service="ssh", target=""}': "0x20",
        },
        6,
        "issuer https://id.example.org does not answer",
    ),
]


@pytest.mark.parametrize(("alert", "series", "minute", "summary"), ALARMS)
def test_alerts_fire(tmp_path: Path, alert: str, series: dict[str, str], minute: int, summary: str) -> None:
    fires = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    file, rules = tmp_path / "alarm.yml", tmp_path / "alerts.yml"
    rules.write_text(ALERTS.read_text())
    asked = [{"expr": fires, "eval_time": f"{minute}m", "exp_samples": [{"labels": "{}", "value": 1}]}]
    asked.append({"expr": fires, "eval_time": "1m", "exp_samples": []})
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": asked,
    }
    file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [case]}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    case["alert_rule_test"] = [{"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []}]
    file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [case]}))
    found = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert summary in found.stdout + found.stderr  # which shows the alert that was not expected


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[httpx.Client]:
    """A Prometheus that scrapes a port every second, and a client of it."""
    scrape = {"job_name": "flamecrest", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
    config = folder / "prometheus.yml"
    config.write_text(
        yaml.safe_dump({"global": {"scrape_interval": "1s"}, "rule_files": [str(ALERTS)], "scrape_configs": [scrape]})
    )
    url = f"127.0.0.1:{free_port()}"
    argv = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*argv, f"--web.listen-address={url}"], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{url}", timeout=20, trust_env=False) as client:
            yield client
    finally:
        process.terminate()
        process.wait()


def value(client: httpx.Client, query: str) -> list[str]:
    """The values of a query; none while Prometheus starts. Raises AssertionError for a query that it refuses."""
    try:
        answer = client.get("/api/v1/query", params={"query": query})
    except httpx.TransportError:
        return []
    if answer.status_code == 503:
        return []
    assert answer.status_code == 200, f"{query}: {answer.text}"
    return [one["value"][1] for one in answer.json()["data"]["result"]]


def test_queries_have_answers(tmp_path: Path) -> None:
    port = free_port()
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(Centre(tmp_path / "c")) as centre,
    ):
        config = centre.write_config()
        config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"metrics": {"port": port}}))
        headers = {"Authorization": f"Bearer {centre.token('fireuser')}"}
        with (
            gateway(config, tmp_path / "gateway.log") as server,
            prometheus(tmp_path, port) as client,
            httpx.Client(base_url=server.url, headers=headers, timeout=30, verify=False) as api,
        ):
            until = time.monotonic() + 120
            ops = f"/filesystem/{centre.system}/ops"
            while not any(float(one) > 0 for one in value(client, "sum(rate(flamecrest_http_requests_total[1m]))")):
                assert time.monotonic() < until, (tmp_path / "prometheus.log").read_text()
                api.get(f"{ops}/stat", params={"path": str(centre.home("fireuser"))}).raise_for_status()
                api.get(f"/compute/{centre.system}/jobs").raise_for_status()
                time.sleep(0.2)
            # Without: what this gateway has none of, such as probes, limits, an audit log, errors.
            without = ("service_refused", "limits_", "audit_", "errors_", "status=~", "saved")
            asked = [query for query in dashboard_queries() if not any(part in query for part in without)]
            while empty := [query for query in asked if not value(client, query)]:
                assert time.monotonic() < until, empty
                time.sleep(0.5)
            for query in alert_queries():
                value(client, query)
            rules = client.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]
        assert not [rule for rule in rules if rule.get("lastError")]
