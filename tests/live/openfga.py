"""A real OpenFGA server with a store in memory: the model of the documentation, and relations that tests write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from .process import answers, free_port, running

BINARY = Path(os.environ.get("FLAMECREST_GO", "/var/cache/flamecrest-go"), "bin/openfga")

API_TOKEN = "api-token"


def _related(*types: dict[str, str]) -> dict[str, Any]:
    return {"directly_related_user_types": list(types)}


USER, MEMBERS = {"type": "user"}, {"type": "group", "relation": "member"}
MODEL = {
    "schema_version": "1.1",
    "type_definitions": [
        {"type": "user"},
        {"type": "group", "relations": {"member": {"this": {}}}, "metadata": {"relations": {"member": _related(USER)}}},
        {
            "type": "system",
            "relations": {
                "can_access": {"this": {}},
                "can_write": {
                    "intersection": {"child": [{"this": {}}, {"computedUserset": {"relation": "can_access"}}]}
                },
            },
            "metadata": {"relations": {"can_access": _related(USER, MEMBERS), "can_write": _related(USER, MEMBERS)}},
        },
    ],
}


@dataclass(frozen=True)
class Store:
    """A store in a running server."""

    http: httpx.Client
    url: str  # of the server
    id: str

    def write(self, user: str, relation: str, system: str, *, what: str = "writes") -> None:
        """Add a relation, or remove it with `deletes`."""
        key = {"user": user, "relation": relation, "object": f"system:{system}"}
        response = self.http.post(f"/stores/{self.id}/write", json={what: {"tuple_keys": [key]}})
        assert response.status_code == 200, response.text


@contextmanager
def openfga(folder: Path, port: int) -> Iterator[Store]:
    """Run OpenFGA with the API token API_TOKEN."""
    argv = [
        str(BINARY), "run", f"--http-addr=127.0.0.1:{port}", f"--grpc-addr=127.0.0.1:{free_port()}",
        "--playground-enabled=false", "--metrics-enabled=false", "--log-level=warn",
        "--authn-method=preshared", f"--authn-preshared-keys={API_TOKEN}",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running(argv, folder / "openfga.log", lambda: answers(f"{url}/healthz")):
        headers = {"Authorization": f"Bearer {API_TOKEN}"}
        with httpx.Client(base_url=url, headers=headers, verify=False, timeout=30) as http:
            store = Store(http, url, http.post("/stores", json={"name": "centre"}).json()["id"])
            response = http.post(f"/stores/{store.id}/authorization-models", json=MODEL)
            assert response.status_code == 201, response.text
            yield store
