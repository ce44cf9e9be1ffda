"""Real token issuers for the live tests: Keycloak, and the npm package `oidc-provider`. Each runs while it is entered.

`python -m tests.live.issuers` installs them below FOLDER, once for a machine, by the ordinary clients of their
registries.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from .process import answers, free_port, running

FOLDER = Path(os.environ.get("FLAMECREST_ISSUERS") or "/var/cache/flamecrest-issuers")
KEYCLOAK = "26.2.5"
OIDC_PROVIDER = "8.8.1"
HERE = Path(__file__).parent
START_SECONDS = 300


def why_not() -> str | None:
    """Why the issuers cannot be started; None if they can."""
    return None if _provider().exists() and _keycloak().exists() else f"not installed in {FOLDER}"


def _provider() -> Path:
    return FOLDER / f"oidc-provider-{OIDC_PROVIDER}"


def _keycloak() -> Path:
    return FOLDER / f"keycloak-{KEYCLOAK}"


@contextmanager
def oidc_provider(folder: Path) -> Iterator[str]:
    """The issuer of tests/live/centre/oidc-issuer.mjs: its URL. Its clients are those of the centre's users."""
    home = _provider()
    shutil.copy(HERE / "centre/oidc-issuer.mjs", home)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["node", str(home / "oidc-issuer.mjs"), str(port), str(folder / "issuer-key.pem")]
    with running(command, folder / "oidc-provider.log", lambda: answers(f"{url}/.well-known/openid-configuration")):
        yield url


@dataclass(frozen=True)
class Keycloak:
    """A running Keycloak: its URL, and a client that is authenticated as its administrator."""

    url: str
    admin: httpx.Client

    def login(self) -> None:
        """Give the client a new token."""
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": "admin"}
        answer = self.admin.post("/realms/master/protocol/openid-connect/token", data=form)
        self.admin.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access_token']}"

    def make(self, path: str, body: Mapping[str, Any]) -> None:
        """Create something below `/admin/realms`."""
        self.login()  # its tokens are valid for a minute only
        self.admin.post(f"/admin/realms{path}", json=body).raise_for_status()


@contextmanager
def keycloak(folder: Path) -> Iterator[Keycloak]:
    """Keycloak with an empty database in memory."""
    home, port = _keycloak(), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        "env", "KC_BOOTSTRAP_ADMIN_USERNAME=admin", "KC_BOOTSTRAP_ADMIN_PASSWORD=admin",
        "JAVA_OPTS_KC_HEAP=-Xms128m -Xmx512m", str(home / "bin/kc.sh"), "start", "--optimized", "--http-enabled=true",
        "--hostname-strict=false", "--http-host=127.0.0.1", f"--http-port={port}",
        f"--http-management-port={free_port()}",
    ]  # fmt: skip
    log, ready = folder / "keycloak.log", f"{url}/realms/master"
    started = running(command, log, lambda: answers(ready), START_SECONDS)
    with started, httpx.Client(base_url=url, timeout=120) as admin:
        made = Keycloak(url, admin)
        made.login()
        yield made


def install() -> None:
    """Install what is missing. A directory appears when it is complete. Raises CalledProcessError."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for home, make in ((_provider(), _install_provider), (_keycloak(), _install_keycloak)):
        if not home.exists():
            with TemporaryDirectory(dir=FOLDER) as part:
                make(Path(part)).rename(home)


def _install_provider(part: Path) -> Path:
    home = part / "home"
    home.mkdir()
    npm = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), f"oidc-provider@{OIDC_PROVIDER}"]
    subprocess.run(npm, check=True, stdout=subprocess.DEVNULL)
    return home


def _install_keycloak(part: Path) -> Path:
    artifact = f"org.keycloak:keycloak-quarkus-dist:{KEYCLOAK}:zip"
    goal = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
    mvn = ["mvn", "-q", "-B", goal, f"-Dartifact={artifact}", f"-DoutputDirectory={part}"]
    subprocess.run(mvn, check=True, stdout=subprocess.DEVNULL)
    with zipfile.ZipFile(part / f"keycloak-quarkus-dist-{KEYCLOAK}.zip") as archive:
        archive.extractall(part)
    home = part / f"keycloak-{KEYCLOAK}"
    script = home / "bin/kc.sh"
    script.chmod(0o755)
    build = [str(script), "build", "--db=dev-mem", "--features=dpop"]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    return home


if __name__ == "__main__":
    install()
