"""The configuration: its schema, read from FirecREST v2 YAML and the environment, frozen; it knows no adapter."""

from .access import Auth, Authentication, OpenFga, SshCa, SshService, StaticKeys, UserKeys
from .clusters import (
    ClusterSettings,
    FileSystem,
    HostKeys,
    Probes,
    Probing,
    ProbingService,
    SchedulerSettings,
    ServiceAccount,
    SshSettings,
    SshTimeouts,
)
from .explain import written
from .loading import load
from .problems import Place, Problem, SettingsError
from .root import LoggableHeader, LoggerSettings, ServerSettings, Settings
from .section import Section
from .shape import Expected, expected, field_expected
from .transfers import (
    BucketLifecycle,
    DataOperation,
    Multipart,
    S3Transfer,
    Storage,
    StreamerTransfer,
    WormholeTransfer,
)

__all__ = [
    "Auth",
    "Authentication",
    "BucketLifecycle",
    "ClusterSettings",
    "DataOperation",
    "Expected",
    "FileSystem",
    "HostKeys",
    "LoggableHeader",
    "LoggerSettings",
    "Multipart",
    "OpenFga",
    "Place",
    "Probes",
    "Probing",
    "ProbingService",
    "Problem",
    "S3Transfer",
    "SchedulerSettings",
    "Section",
    "ServerSettings",
    "ServiceAccount",
    "Settings",
    "SettingsError",
    "SshCa",
    "SshService",
    "SshSettings",
    "SshTimeouts",
    "StaticKeys",
    "Storage",
    "StreamerTransfer",
    "UserKeys",
    "WormholeTransfer",
    "expected",
    "field_expected",
    "load",
    "written",
]
