"""Settings of the login nodes of a cluster that has several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from flamecrest.server.settings.problems import InvalidSetting
from flamecrest.server.settings.section import (
    FLAMECREST_ONLY,
    Host,
    Kind,
    Port,
    PublicKey,
    Section,
    Word,
    as_tuple,
    none_if_blank,
)
from flamecrest.server.settings.use import ReadBy

Weight = Annotated[float, Kind("number"), Field(gt=0, le=1000)]


class LoginNodeSettings(Section):
    """One login node; a name with several addresses is one node for each of them."""

    USE = ReadBy("server.wiring")

    host: Host = Field(
        description="The login node.", json_schema_extra=FLAMECREST_ONLY, examples=["login1.example.org"]
    )
    port: Port | None = Field(
        default=None,
        description="The port of its SSH server. Not set: `port` of `ssh`.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    weight: Weight = Field(
        default=1,
        description="How much work the node takes, compared to the others: 2 for twice as much.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    zone: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="Where the node is. Nodes in the `zone` of `ssh` are preferred to those of other zones.",
        json_schema_extra=FLAMECREST_ONLY,
        examples=["east"],
    )
    pinned: Annotated[tuple[PublicKey, ...], BeforeValidator(as_tuple)] = Field(
        default=(),
        description="The node's public keys, of which it must show one. Not set: `host_keys` of `ssh`.",
        json_schema_extra=FLAMECREST_ONLY,
        examples=[["ssh-ed25519 AAAAC3…"]],
    )


def each_once(value: tuple[LoginNodeSettings, ...]) -> tuple[LoginNodeSettings, ...]:
    """Refuse a list that names a node twice."""
    names = [(node.host.lower(), node.port) for node in value]
    for name, node in zip(names, value, strict=True):
        if names.count(name) > 1:
            raise InvalidSetting(f"`{node.host}` is listed twice", "list every node once")
    return value


def host_of_first(data: Any) -> Any:
    """The settings of `ssh`, whose `host` and `port` are those of the first of `hosts`, if that is given."""
    if not isinstance(data, Mapping) or not data.get("hosts") or not isinstance(data["hosts"], list | tuple):
        return data
    if data.get("host") is not None:
        raise InvalidSetting("has both `host` and `hosts`", "keep `hosts`")
    first = data["hosts"][0]
    host = first.get("host") if isinstance(first, Mapping) else None
    if host is None:
        return data  # refused by the validation of `hosts`
    port = {} if first.get("port") is None else {"port": first["port"]}
    return {**data, **port, "host": host}
