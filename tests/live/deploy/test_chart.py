"""The Helm chart: its manifests are valid, mistakes in values are refused, and a gateway runs as its pod would."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.centre import Centre
from tests.live.process import PROGRAMS, ROOT, Server, answers, free_port, running

CHART = ROOT / "deploy" / "helm" / "flamecrest"
EXAMPLES = sorted((CHART / "ci").glob("*.yaml"))
SMALL = CHART / "ci" / "small.yaml"
HELM = Path(os.environ.get("FLAMECREST_GO", "/var/cache/flamecrest-go"), "bin", "helm")
VALIDATE = ROOT / ".venv-kubernetes" / "bin" / "kubernetes-validate"
VERSIONS = ("1.27", "1.37")  # of Kubernetes: the oldest that the chart accepts, and the newest known
OF_OTHERS = {"ServiceMonitor", "HTTPRoute"}  # not defined by Kubernetes itself

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        not os.access(HELM, os.X_OK), reason=f"{HELM} is missing: tests/live/helm.sh builds it, with Go"
    ),
]


def helm(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM, *map(str, arguments)], capture_output=True, text=True, check=False)


def manifests(*arguments: object, version: str = VERSIONS[-1]) -> list[dict[str, Any]]:
    done = helm("template", "gw", CHART, "--namespace", "hpc", "--kube-version", version, *arguments)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def of_kind(found: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (one,) = [one for one in found if one["kind"] == kind]
    return one


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
def test_lint(values: Path) -> None:
    done = helm("lint", "--strict", "--values", values, CHART)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not VALIDATE.exists(), reason="scripts/test-live installs kubernetes-validate")
@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid(version: str, tmp_path: Path) -> None:
    """By the schemas of Kubernetes, in which unknown fields are errors."""
    found = [one for values in EXAMPLES for one in manifests("--values", values, version=version)]
    assert {"Deployment", "HorizontalPodAutoscaler", "Ingress"} <= {one["kind"] for one in found}
    file = tmp_path / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(one for one in found if one["kind"] not in OF_OTHERS))
    argv = [str(VALIDATE), "--strict", "--kubernetes-version", version, str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed") == done.stdout.count("\n") > 10, done.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("image.repository=", "'/image/repository': minLength"),
        ("replica=3", "'replica' not allowed"),
        ("replicas=0", "'/replicas': minimum"),
        ("config.auth=null", "'/config/auth': got null"),
        ("config.clusters=daint", "'/config/clusters': got string"),
        ("ingress.enabled=true", "'/ingress/host': minLength"),
        ("gateway.enabled=true", "'/gateway/parentRefs': minItems"),
        ("image.digest=sha256:abc", "'/image/digest': 'sha256:abc' does not match"),
        ("networkPolicy.loginNodes[0]=login.example.org", "'/networkPolicy/loginNodes/0'"),
        ("networkPolicy.from=null", "'/networkPolicy': missing property 'from'"),
        ("extraEnv[0].name=X,extraEnv[0].valueFrom=y", "'/extraEnv/0'"),
        ("autoscaling.enabled=true,autoscaling.min=9,autoscaling.max=3", "autoscaling.min is greater than"),
        ("autoscaling.enabled=true,metrics.enabled=false", "autoscaling needs metrics.enabled"),
        ("existingSecret=,metrics.tokenKey=token", "metrics.tokenKey needs existingSecret"),
        ("config.ssh_credentials.keys.alice.private_key=abc", "alice.private_key is a secret"),
        ("config.sshCredentials.keys.bob.privateKey=abc", "bob.privateKey is a secret"),
        ("config.clusters[0].service_account.secret=abc", "config.clusters[0].service_account.secret is a secret"),
        ("config.limits.store=redis://:abc@valkey", "config.limits.store is a secret"),
    ],
)
def test_mistake_in_values_is_refused(change: str, said: str) -> None:
    done = helm("template", "gw", CHART, "--kube-version", VERSIONS[-1], "--values", SMALL, "--set", change)
    assert done.returncode != 0
    assert said in done.stderr
    assert "redis://" not in done.stderr


def test_only_changes_that_need_new_pods_make_new_pods() -> None:
    def pods(change: str) -> Any:
        return of_kind(manifests("--values", SMALL, "--set", change), "Deployment")["spec"]["template"]

    before = pods("config.app_debug=false")
    assert pods("config.app_debug=false,config.clusters[0].name=eiger") == before
    assert pods("config.app_debug=false,config.ssh_credentials.keys.bob.private_key=secret_file:/b") == before
    assert pods("config.app_debug=true") != before


def test_names_in_values_are_quoted_in_manifests() -> None:
    hostile = 'a"b: {{ .Values }} {c} #d\n- e'
    found = manifests("--values", SMALL, "--set-literal", f"config.clusters[0].ssh.host={hostile}")
    config = yaml.safe_load(of_kind(found, "ConfigMap")["data"]["flamecrest.yaml"])
    assert config["clusters"][0]["ssh"]["host"] == hostile


class Volume:
    """A folder with the files of a ConfigMap, exchanged as kubelet does it: all at once, by a link named ..data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        folder.mkdir()

    def write(self, files: dict[str, str]) -> None:
        self._number += 1
        version = self.folder / f"..{self._number}"
        version.mkdir()
        for name, text in files.items():
            (version / name).write_text(text)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(Path("..data", name))
        (self.folder / "..new").symlink_to(version.name)
        (self.folder / "..new").rename(self.folder / "..data")


@contextmanager
def pod(found: list[dict[str, Any]], volume: Volume, folder: Path) -> Iterator[Server]:
    """A gateway with the arguments and the environment of the chart's container, on free ports of loopback."""
    (container,) = of_kind(found, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert "/etc/flamecrest" in [mount["mountPath"] for mount in container["volumeMounts"]]
    ports = {"8000": str(free_port()), "9464": str(free_port()), "0.0.0.0": "127.0.0.1"}
    arguments = [ports.get(one, one).replace("/etc/flamecrest", str(volume.folder)) for one in container["args"]]
    variables = [f"{one['name']}={ports.get(one['value'], one['value'])}" for one in container["env"]]
    argv = [str(shutil.which("env")), *variables, str(PROGRAMS / "flamecrest"), *arguments]
    url, log = f"http://127.0.0.1:{ports['8000']}", folder / "log"
    with running(argv, log, lambda: answers(f"{url}/health/ready")) as pid:
        assert "requests_open" in httpx.get(f"http://127.0.0.1:{ports['9464']}/metrics", trust_env=False).text
        yield Server(url, pid, log)


def test_gateway_runs_as_the_pod_and_takes_over_a_changed_config_map(tmp_path: Path) -> None:
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(Centre(tmp_path / "c")) as centre,
    ):
        config = yaml.safe_load(centre.write_config().read_text())
        config["server"] = {key: value for key, value in config.get("server", {}).items() if "tls" not in key}
        volume = Volume(tmp_path / "config")

        def apply() -> list[dict[str, Any]]:
            values = tmp_path / "values.yaml"
            values.write_text(yaml.safe_dump({"image": {"repository": "flamecrest"}, "config": config}))
            found = manifests("--values", values, "--set", "shutdown.delay=0")
            volume.write(of_kind(found, "ConfigMap")["data"])
            return found

        with pod(apply(), volume, tmp_path) as server:
            headers = {"Authorization": f"Bearer {centre.token('fireuser')}"}
            with httpx.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False) as api:
                config["clusters"].append(config["clusters"][0] | {"name": "added"})
                apply()
                names: set[str] = set()
                while "added" not in names:  # the timeout of the test ends it
                    time.sleep(0.2)
                    names = {one["name"] for one in api.get("/status/systems").raise_for_status().json()["systems"]}
                path = str(centre.home("fireuser"))
                api.get("/filesystem/added/ops/stat", params={"path": path}).raise_for_status()
