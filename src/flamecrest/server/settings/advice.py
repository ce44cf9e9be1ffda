"""What an operator should know about a valid configuration: what deserves a warning."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from .access.advice import bound_token_warnings, readable_secrets, rule_warnings
from .access.authentication import AuthenticationSettings, TokenSettings
from .access.credentials import KeyServiceSettings, StaticKeysSettings
from .cluster.clusters import ClusterSettings
from .cluster.schedulers import SchedulerSettings
from .cluster.transfers import StreamerTransferSettings
from .root import Settings
from .section import Section, StoredSecret
from .use import NoEffect

_OF_BREAKERS = {"retry_interval", "failed_requests"}  # they count without probes, too


def warnings(settings: Settings) -> list[str]:
    """The settings that work but are incomplete, insecure or without effect."""
    found = [*_token_warnings(settings)]
    if not settings.clusters:
        found.append("clusters: no cluster is configured")
    found += rule_warnings(settings.auth, [cluster.name for cluster in settings.clusters])
    found += bound_token_warnings(settings.auth, settings.transfers.public_url)
    for cluster in settings.clusters:
        found += _cluster_warnings(cluster, settings)
    found += _credential_warnings(settings)
    if (metrics := settings.metrics) is not None and metrics.token is None and not _is_loopback(metrics.host):
        found.append(f"metrics: everyone who reaches {metrics.host} port {metrics.port} can read them, set `token`")
    unused = [(path, use.reason) for path, use in _unused(settings)]
    for path, reason in (*unused, *_idle(settings)):
        found.append(f"{path} {'have' if ', ' in path else 'has'} no effect: {reason}")
    inline = list(_inline_secrets(settings))
    if inline:
        found.append(f"secrets are in the configuration itself, use secret_file: instead: {', '.join(inline)}")
    readable = sorted(set(readable_secrets(settings)))
    if readable:
        found.append(f"every account of this host can read secrets, use chmod o-r: {', '.join(readable)}")
    return found


def _token_warnings(settings: Settings) -> Iterator[str]:
    auth = settings.auth
    names = {cluster.name.lower() for cluster in settings.clusters}
    yield from _issuer_warnings("auth.authentication", auth.authentication, names)
    for number, issuer in enumerate(auth.issuers):
        yield from _issuer_warnings(f"auth.issuers.{number}", issuer, names)
    tokens = auth.authentication
    if tokens.authorization_url is not None and (tokens.docs_client_id is None or tokens.token_url is None):
        yield "auth.authentication.authorization_url has no effect: it needs docs_client_id and token_url"
    if auth.client_certificate_header is not None and not settings.server.trusted_proxies:
        yield "auth.client_certificate_header has no effect: no proxy is in server.trusted_proxies"


def _issuer_warnings(path: str, tokens: TokenSettings, clusters: set[str]) -> Iterator[str]:
    if tokens.issuer is None:
        yield f"{path}.issuer is not set: tokens of any issuer that uses the same keys are accepted"
    if not tokens.audience:
        yield f"{path}.audience is not set: tokens that were issued for other services are accepted"
    urls = {"issuer": [tokens.issuer], "public_certs": tokens.public_certs}
    urls["introspection.url"] = [tokens.introspection.url] if tokens.introspection else []
    if isinstance(tokens, AuthenticationSettings):
        urls |= {"token_url": [tokens.token_url], "authorization_url": [tokens.authorization_url]}
    for key, values in urls.items():
        for url in values:
            host = urlsplit(url or "").hostname or ""
            if (url or "").startswith("http://") and not _is_loopback(host):
                yield f"{path}.{key}: http://{host} is not encrypted, its responses can be forged"
    for name in sorted(name for name in tokens.cluster_accounts if name.lower() not in clusters):
        yield f"{path}.cluster_accounts has {name!r}, which is no cluster"


def _cluster_warnings(cluster: ClusterSettings, settings: Settings) -> Iterator[str]:
    where = f"cluster {cluster.name}"
    if cluster.ssh.host_keys.policy == "off":
        yield f"{where}: ssh.host_keys.policy is off: an attacker in the network can read and change everything"
    if not cluster.file_systems:
        yield f"{where}: no file_systems are configured, so every path is refused"
    transfer = settings.operations(cluster).data_transfer
    if isinstance(transfer, StreamerTransferSettings) and not transfer.public_ips:
        yield f"{where}: data_transfer.public_ips is not set: only users who forward the ports reach the job"
    if cluster.probing.timeouts():
        if cluster.service_account is None:
            yield f"{where}: nothing is probed: probing needs a service_account"
        if settings.auth.authentication.token_url is None:
            yield f"{where}: nothing is probed: probing needs auth.authentication.token_url"


def _credential_warnings(settings: Settings) -> Iterator[str]:
    own = [cluster for cluster in settings.clusters if cluster.ssh_credentials is not None]
    sources = {f"cluster {cluster.name}: ssh_credentials": cluster.ssh_credentials for cluster in own}
    if not own or len(own) < len(settings.clusters):
        sources["ssh_credentials"] = settings.ssh_credentials
    for where, source in sources.items():
        if isinstance(source, StaticKeysSettings) and not source.keys:
            yield f"{where}: no user has a key, so every request to a cluster is refused"
        if isinstance(source, KeyServiceSettings) and source.url.startswith("http://"):
            host = urlsplit(source.url).hostname or ""
            if not _is_loopback(host):
                yield f"{where}.url: http://{host} is not encrypted, users' tokens and keys can be read"


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
        where = f"cluster {cluster.name}"
        if cluster.scheduler.connection_mode == "ssh":
            yield from _idle_rest(cluster.scheduler, where)
        if cluster.scheduler.type != "local" and "local" in cluster.scheduler.model_fields_set:
            yield f"{where}: scheduler.local", f"the scheduler's type is {cluster.scheduler.type}"
        if cluster.probing.timeouts():
            continue
        if "probing" in cluster.model_fields_set and not cluster.probing.model_fields_set & _OF_BREAKERS:
            yield f"{where}: probing", "it names no services"
        shares = cluster.scheduler.shared_reads.life > 0 and cluster.scheduler.type != "local"
        if cluster.service_account is not None and not (shares and cluster.scheduler.connection_mode != "rest"):
            yield f"{where}: service_account", "nothing is probed, and the scheduler's answers are not shared by it"


def _idle_rest(scheduler: SchedulerSettings, where: str) -> Iterator[tuple[str, str]]:
    for name in ("api_url", "api_version"):
        if getattr(scheduler, name):
            yield f"{where}: scheduler.{name}", "connection_mode is ssh; it is only shown in `/status/systems`"
    if scheduler.jwt_key is not None:
        yield f"{where}: scheduler.jwt_key", "connection_mode is ssh"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _unused(section: Section, path: str = "") -> Iterator[tuple[str, NoEffect]]:
    """The settings that are given and that nothing reads, with the declaration that says so."""
    for key in section.ignored:
        yield _join(path, key), NoEffect(section.IGNORED[key])
    same: dict[NoEffect, list[str]] = {}
    for name, info in type(section).model_fields.items():
        value, use, where = getattr(section, name), section.use_of(name), _join(path, name)
        if name not in section.model_fields_set or value is None or value == info.default:
            continue
        if isinstance(use, NoEffect):
            same.setdefault(use, []).append(where)
            continue
        for at, below in _sections(value, where):
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
