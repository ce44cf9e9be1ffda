"""A real OpenFGA server decides about a gateway on the live site: relations, groups from claims, an outage."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from flamecrest.sandbox.issuer import Issuer
from tests.live.openfga import API_TOKEN, BINARY, openfga
from tests.live.process import free_port, gateway
from tests.live.site import Site, write_settings

pytestmark = [pytest.mark.live]


def test_relations_decide(site: Site, live_issuer: Issuer, tmp_path: Path) -> None:
    if not os.access(BINARY, os.X_OK):
        pytest.skip(f"{BINARY} is missing: tests/live/openfga.sh builds it, with Go")
    alice, bob = site.users[0], site.users[2]
    port = free_port()
    with ExitStack() as stack:
        fga = stack.enter_context(ExitStack())
        store = fga.enter_context(openfga(tmp_path, port))
        settings = site.settings(live_issuer, tmp_path / "secret", probing=False)
        (tmp_path / "token").write_text(API_TOKEN)
        settings["auth"]["authorization"] = {
            "url": f"http://127.0.0.1:{port}",
            "timeout": 20,
            "openfga": {
                "store": store.id,
                "token": f"secret_file:{tmp_path / 'token'}",
                "relations": {"files:write": "can_write"},
                "contextual_tuples": [{"claim": "groups", "relation": "member", "object": "group:{value}"}],
                "consistency": "higher_consistency",
                "cache_seconds": 0,
            },
        }
        api = stack.enter_context(gateway(write_settings(settings, tmp_path / "gateway.yaml"), tmp_path / "log"))
        http = stack.enter_context(httpx.Client(base_url=api.url, verify=False, timeout=60))

        def status(user: str, method: str, operation: str, groups: list[str] | None = None, **options: Any) -> int:
            token = live_issuer.mint(user, groups=groups or [])
            headers = {"Authorization": f"Bearer {token}"}
            url = f"/filesystem/{site.system}/ops/{operation}"
            return http.request(method, url, headers=headers, **options).status_code

        def stat(user: str, *groups: str) -> int:
            return status(user, "GET", "stat", list(groups), params={"path": f"{site.root}/{user}"})

        def mkdir(user: str, *groups: str) -> int:
            body = {"path": f"{site.root}/{user}/openfga", "parent": True}
            return status(user, "POST", "mkdir", list(groups), json=body)

        def copy(user: str) -> int:
            """Needs files:write and files:read: one BatchCheck."""
            body = {"path": f"{site.root}/{user}/.bashrc", "targetPath": f"{site.root}/{user}/openfga/copy"}
            return status(user, "POST", "cp", json=body | {"overwrite": True})

        assert (stat(alice), stat(bob)) == (403, 403)
        store.write(f"user:{alice}", "can_access", site.system)
        assert (stat(alice), stat(bob), mkdir(alice), copy(alice)) == (200, 403, 403, 403)
        store.write(f"user:{alice}", "can_write", site.system)
        assert (mkdir(alice), copy(alice) in {201, 404}) == (201, True)
        store.write("group:hpc#member", "can_access", site.system)
        assert (stat(bob, "hpc"), stat(bob, "other"), mkdir(bob, "hpc")) == (200, 403, 403)

        token = live_issuer.mint(bob)
        answer = http.get("/status/systems", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()) == (200, {"systems": []})
        token = live_issuer.mint(alice)
        answer = http.get("/status/systems", headers={"Authorization": f"Bearer {token}"})
        assert [one["name"] for one in answer.json()["systems"]] == [site.system]

        removed = status(alice, "DELETE", "rm", params={"path": f"{site.root}/{alice}/openfga"})
        store.write(f"user:{alice}", "can_access", site.system, what="deletes")
        assert removed == 204
        assert (stat(alice), mkdir(alice)) == (403, 403)
        fga.close()  # the server is down
        assert (stat(alice), mkdir(bob, "hpc")) == (503, 503)
