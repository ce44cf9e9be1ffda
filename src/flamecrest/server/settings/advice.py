"""What an operator should know about a valid configuration: what this version refuses, and what deserves a warning."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from .access import StaticKeysSettings
from .clusters import SUPPORTED_SCHEDULERS, ClusterSettings
from .problems import Problem, SettingsError, SourceLocation
from .root import Settings
from .section import Section, StoredSecret
from .use import NoEffect, NotSupported, ReadBy


def unsupported(settings: Settings) -> list[str]:
    """The settings that this version refuses, each with what to do instead."""
    found = [
        f"{path} is not supported in this version: {use.hint}"
        for path, use in _unused(settings)
        if isinstance(use, NotSupported)
    ]
    for cluster in settings.clusters:
        scheduler, where = cluster.scheduler, f"cluster {cluster.name}: scheduler"
        if scheduler.type not in SUPPORTED_SCHEDULERS:
            supported = " or ".join(SUPPORTED_SCHEDULERS)
            found.append(f"{where}.type {scheduler.type} is not supported in this version: use {supported}")
        if scheduler.connection_mode != "ssh":
            mode = scheduler.connection_mode
            found.append(f"{where}.connection_mode {mode} is not supported in this version: use ssh")
    return found


def require_supported(settings: Settings) -> None:
    """Raise SettingsError if the configuration contains settings that this version refuses."""
    if found := unsupported(settings):
        raise SettingsError(*(Problem(SourceLocation("configuration"), "", message) for message in found))


def warnings(settings: Settings) -> list[str]:
    """The settings that work but are incomplete, insecure or without effect."""
    found = [*_token_warnings(settings)]
    if not settings.clusters:
        found.append("clusters: no cluster is configured")
    for cluster in settings.clusters:
        found += _cluster_warnings(cluster, settings)
    if isinstance(settings.ssh_credentials, StaticKeysSettings) and not settings.ssh_credentials.keys:
        found.append("ssh_credentials: no user has a key, so every request to a cluster is refused")
    unused = [(path, use.reason) for path, use in _unused(settings) if isinstance(use, NoEffect)]
    for path, reason in (*unused, *_idle(settings)):
        found.append(f"{path} {'have' if ', ' in path else 'has'} no effect: {reason}")
    inline = list(_inline_secrets(settings))
    if inline:
        found.append(f"secrets are in the configuration itself, use secret_file: instead: {', '.join(inline)}")
    return found


def _token_warnings(settings: Settings) -> Iterator[str]:
    tokens = settings.auth.authentication
    if tokens.issuer is None:
        yield "auth.authentication.issuer is not set: tokens of any issuer that uses the same keys are accepted"
    if not tokens.audience:
        yield "auth.authentication.audience is not set: tokens that were issued for other services are accepted"
    urls = {"issuer": [tokens.issuer], "token_url": [tokens.token_url], "public_certs": tokens.public_certs}
    for key, values in urls.items():
        for url in values:
            host = urlsplit(url or "").hostname or ""
            if (url or "").startswith("http://") and not _is_loopback(host):
                yield f"auth.authentication.{key}: http://{host} is not encrypted, its responses can be forged"


def _cluster_warnings(cluster: ClusterSettings, settings: Settings) -> Iterator[str]:
    where = f"cluster {cluster.name}"
    if cluster.ssh.host_keys.policy == "off":
        yield f"{where}: ssh.host_keys.policy is off: an attacker in the network can read and change everything"
    if not cluster.file_systems:
        yield f"{where}: no file_systems are configured, so every path is refused"
    if cluster.probing.timeouts():
        if cluster.service_account is None:
            yield f"{where}: nothing is probed: probing needs a service_account"
        if settings.auth.authentication.token_url is None:
            yield f"{where}: nothing is probed: probing needs auth.authentication.token_url"


def _idle(settings: Settings) -> Iterator[tuple[str, str]]:
    """Settings whose effect depends on others that are not set: path and reason."""
    tokens, logger = settings.auth.authentication, settings.logger
    if tokens.scopes and tokens.token_url is None:
        yield "auth.authentication.scopes", "the OpenAPI document shows it together with token_url, which is not set"
    if logger.loggable_request_headers and not logger.enable_tracing_log:
        yield "logger.loggable_request_headers", "logger.enable_tracing_log is false"
    if logger.enable_tracing_log and not logger.loggable_request_headers:
        yield "logger.enable_tracing_log", "logger.loggable_request_headers is empty"
    for cluster in settings.clusters:
        scheduler, where = cluster.scheduler, f"cluster {cluster.name}"
        for name in ("api_url", "api_version"):
            if getattr(scheduler, name) and scheduler.connection_mode == "ssh":
                yield f"{where}: scheduler.{name}", "connection_mode is ssh; it is only shown in `/status/systems`"
        if cluster.probing.timeouts():
            continue
        if "probing" in cluster.model_fields_set:
            yield f"{where}: probing", "it names no services"
        if cluster.service_account is not None:
            yield f"{where}: service_account", "nothing is probed"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _unused(section: Section, path: str = "") -> Iterator[tuple[str, NoEffect | NotSupported]]:
    """The settings that are given and that nothing reads, with the declaration that says so."""
    for key in section.ignored:
        yield _join(path, key), NoEffect(section.IGNORED[key])
    same: dict[NoEffect | NotSupported, list[str]] = {}
    for name, info in type(section).model_fields.items():
        value, use, where = getattr(section, name), section.use_of(name), _join(path, name)
        if name not in section.model_fields_set or value is None or value == info.default:
            continue
        if not isinstance(use, ReadBy):
            same.setdefault(use, []).append(where)
            continue
        for at, below in _sections(value, where):
            if isinstance(below.USE, NotSupported) and below.TAG is not None:
                yield f"{at}.{below.TAG} {getattr(below, below.TAG)}", below.USE
            else:
                yield from _unused(below, at)
    for use, places in same.items():
        yield ", ".join(places), use


def _sections(value: Any, path: str) -> Iterator[tuple[str, Section]]:
    """The sections in a value, with their paths."""
    if isinstance(value, Section):
        yield (f"cluster {value.name}" if isinstance(value, ClusterSettings) else path), value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _sections(item, f"{path}.{name}")
    elif isinstance(value, tuple):
        for at, item in enumerate(value):
            yield from _sections(item, f"{path}[{at}]")


def _join(path: str, name: str) -> str:
    if not path:
        return name
    return f"{path}: {name}" if path.startswith("cluster ") and ":" not in path else f"{path}.{name}"


def _inline_secrets(value: Any, where: str = "") -> Iterator[str]:
    """The paths of secrets that are written in the configuration file itself."""
    if isinstance(value, SecretStr):
        is_inline = not isinstance(value, StoredSecret) and value.get_secret_value()
        if is_inline and where.rpartition(".")[2] != "private_url":
            yield where
    elif isinstance(value, Section):
        for name in type(value).model_fields:
            yield from _inline_secrets(getattr(value, name), f"{where}.{name}" if where else name)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _inline_secrets(item, f"{where}.{name}")
    elif isinstance(value, tuple):
        for at, item in enumerate(value):
            name = item.name if isinstance(item, ClusterSettings) else str(at)
            yield from _inline_secrets(item, f"{where}[{name}]")
