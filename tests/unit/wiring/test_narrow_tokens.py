"""A narrow token at a gateway as it is wired: links do not lead out of its paths, on a cluster over SSH."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flamecrest.sandbox.centre import Centre
from flamecrest.server.auth.narrow.restriction import Restriction
from flamecrest.server.auth.port import Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Denied
from flamecrest.server.settings import load
from flamecrest.server.wiring.gateway import open_gateway

pytestmark = pytest.mark.anyio


async def test_links_do_not_lead_out_of_the_paths(tmp_path: Path) -> None:
    async with Centre(tmp_path / "centre") as centre:
        config = centre.write_config(tmp_path / "flamecrest.yaml")
        settings = yaml.safe_load(config.read_text())
        settings["auth"]["tokens"] = {"folder": str(tmp_path / "tokens"), "signing_key": "k" * 32}
        config.write_text(yaml.safe_dump(settings))
        home = centre.home("fireuser")
        (home / "mine").mkdir()
        for name in ("mine/a", "other"):
            (home / name).write_text(name)
        (home / "mine/out").symlink_to(home / "other")
        (home / "mine/in").symlink_to(home / "mine/a")
        async with open_gateway(load(config, {})) as gateway:
            soon = Deadline.after(60)
            owner = await gateway.authenticator.authenticate(f"Bearer {centre.token('fireuser')}", soon)
            assert gateway.tokens is not None
            limits = Restriction(frozenset({Verb.FILES_READ}), (), (str(home / "mine"),))
            _, token = await gateway.tokens.issue(owner, limits, life=600, uses=None, description="")
            narrow = await gateway.authenticator.authenticate(f"Bearer {token}", soon)
            cluster = gateway.cluster(centre.system)
            for name in ("a", "in"):
                await cluster.allow(narrow, Verb.FILES_READ, soon, str(home / "mine" / name))
            for name in ("mine/out", "other"):
                with pytest.raises(Denied):
                    await cluster.allow(narrow, Verb.FILES_READ, soon, str(home / name))
                await cluster.allow(owner, Verb.FILES_READ, soon, str(home / name))
