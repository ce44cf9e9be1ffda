"""The settings of the HTTP server."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .problems import InvalidSetting
from .section import (
    FLAMECREST_ONLY,
    Bytes,
    Count,
    Port,
    Ratio,
    Seconds,
    SecondsOrNone,
    Secret,
    Section,
    Url,
    Word,
    none_if_blank,
)
from .use import ReadBy

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://[a-z0-9_.:\[\]-]+", re.ASCII)  # RFC 6454, 6.2
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}  # which an origin does not name


def _proxy(value: str) -> str:
    if value != "*":  # any address
        try:
            ipaddress.ip_network(value)
        except ValueError:
            raise InvalidSetting("is neither an IP address nor a network", "10.0.0.0/8") from None
    return value


def _origin(value: str) -> str:
    if value == "*":  # any origin
        return value
    if value == "null":
        raise InvalidSetting("is the origin of every sandboxed page and local file: it names nobody")
    found = _ORIGIN.fullmatch(value)
    if found is None or value.endswith(_DEFAULT_PORTS.get(found[1], "/")):
        raise InvalidSetting(
            "is not an origin as browsers send it (scheme, host, port if it is not the default)",
            "https://app.example.org",
        )
    return value


LEAST_WORKER_TIMEOUT = 2.0  # seconds


class ServerSettings(Section):
    """The HTTP server."""

    USE = ReadBy("cli")

    http: Literal["granian", "uvicorn"] = Field(
        default="granian",
        description="The HTTP server: `granian`, or `uvicorn` (slower, all in Python).",
        json_schema_extra=FLAMECREST_ONLY,
    )
    host: Word = Field(default="127.0.0.1", description="The address to listen on.", json_schema_extra=FLAMECREST_ONLY)
    port: Port = Field(default=8000, description="The port to listen on.", json_schema_extra=FLAMECREST_ONLY)
    tls_certificate: Word | None = Field(
        default=None,
        description="The file with the certificate and its chain (PEM), to serve HTTPS. Without it: HTTP.",
        examples=["/etc/flamecrest/tls.crt"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    tls_key: Word | None = Field(
        default=None,
        description="The file with the private key of the certificate (PEM, without a password).",
        examples=["/etc/flamecrest/tls.key"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    workers: Count = Field(
        default=1,
        description="The number of processes that serve. Each has its own SSH connections, limits and port of metrics.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    worker_timeout: SecondsOrNone = Field(
        default=30,
        description="With several workers: a worker whose event loop has done nothing for so long is killed and "
        "replaced. 0: never.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_connections: Count = Field(
        default=2000,
        description="The greatest number of open HTTP connections; further ones wait, and idle ones are ended. "
        "At most half of the file descriptors of the process are used for them.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_requests_per_user: Count | None = Field(
        default=None,
        description="The greatest number of open requests of one user; further ones get 429. "
        "Default: half of `max_connections`, so that one user cannot keep the others out.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    refused_tokens_per_second: Annotated[Count, ReadBy("server.app")] = Field(
        default=100,
        description="Requests without a valid token that each client address may send a second; the answers to further "
        "ones are held back for a second. Requests with a valid token are not affected.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_memory: Bytes = Field(
        default=2 * 1024**3,
        description="The greatest number of bytes that large JSON bodies, listings, texts and lists of jobs of all "
        "open requests of a process occupy; further ones wait, or get 429 or 503. One user has 512 MiB at most.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        default="info", description="The lowest level that is logged.", json_schema_extra=FLAMECREST_ONLY
    )
    access_log: bool = Field(
        default=True,
        description="Log one line for every request; `false`: only for requests that fail with a 5xx status.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    shutdown_timeout: Seconds = Field(
        default=30,
        description="Time that running requests have to finish when the server is stopped; then they end with 503.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    shutdown_delay: SecondsOrNone = Field(
        default=0,
        description="Time between the signal to stop and the stop: `/health/ready` answers 503, and requests are "
        "served as before, until load balancers have taken notice.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    header_timeout: Seconds = Field(
        default=75,  # longer than most clients keep idle connections: a request sent while it closes would be lost
        description="Time that a client has to send the header of a request, and that a connection may be idle between "
        "two requests; then the connection is closed.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    stall_timeout: Annotated[Seconds, ReadBy("server.app")] = Field(
        default=60,
        description="Time within which a client must send some of a request's body, or read some of the response, when "
        "the gateway waits for it (4096 bytes, or the rest); then the request ends and the connection is closed.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    trusted_proxies: Annotated[tuple[Annotated[Word, AfterValidator(_proxy)], ...], ReadBy("server.app")] = Field(
        default=("127.0.0.1",),
        description="IP addresses and networks of reverse proxies whose `X-Forwarded-*` headers are used; `*`: all.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    cors_origins: Annotated[tuple[Annotated[Word, AfterValidator(_origin)], ...], ReadBy("server.app")] = Field(
        default=(),
        description="The origins of web pages whose scripts may use the API, and the buckets of object stores (CORS), "
        "as browsers send them; `*`: all.",
        examples=[["https://portal.example.org"]],
        json_schema_extra=FLAMECREST_ONLY,
    )

    @model_validator(mode="after")
    def _worker_has_time(self) -> ServerSettings:
        if 0 < self.worker_timeout < LEAST_WORKER_TIMEOUT:
            raise InvalidSetting(
                f"has a `worker_timeout` below {LEAST_WORKER_TIMEOUT:g}: workers that have much to do would be killed",
                "worker_timeout: 30",
            )
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> ServerSettings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise InvalidSetting("has only one of `tls_certificate` and `tls_key`", "set both, or none")
        return self


class MetricsSettings(Section):
    """The port that serves metrics."""

    USE = ReadBy("cli")

    host: Word = Field(
        default="127.0.0.1",
        description="The address to listen on. Protect one that other machines can reach, by `token` and a firewall.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    port: Port = Field(default=9464, description="The port to listen on.", json_schema_extra=FLAMECREST_ONLY)
    token: Annotated[Secret | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="The bearer token that is required. Not set: none.",
        examples=["secret_file:/run/secrets/metrics_token"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    users: bool = Field(
        default=False,
        description="Show `flamecrest top` the names of users who have open requests, at `/users`.",
        json_schema_extra=FLAMECREST_ONLY,
    )


class TracingSettings(Section):
    """Traces of requests, sent to an OpenTelemetry collector."""

    USE = ReadBy("server.wiring")

    endpoint: Url = Field(
        description="The address that takes traces by OTLP over HTTP (protobuf).",
        examples=["http://127.0.0.1:4318/v1/traces"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    token: Annotated[Secret | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="The bearer token that the collector requires. Not set: none is sent.",
        examples=["secret_file:/run/secrets/collector_token"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    ratio: Ratio = Field(
        default=1.0,
        description="The share of requests that are traced, from 0 to 1. A request that is part of a caller's trace "
        "(`traceparent`) is traced if the caller says so.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    service_name: Word = Field(
        default="flamecrest", description="The name of the service in the traces.", json_schema_extra=FLAMECREST_ONLY
    )
