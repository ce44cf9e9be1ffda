"""The configuration: schema, loading from YAML and the environment, validation. Immutable; it knows no adapter."""

from .access import (
    AuthenticationSettings,
    AuthSettings,
    OpenFgaSettings,
    SshCaSettings,
    SshServiceSettings,
    StaticKeysSettings,
    UserKeysSettings,
)
from .advice import require_supported, unsupported, warnings
from .clusters import (
    ClusterSettings,
    FileSystemSettings,
    HostKeysSettings,
    ProbedServiceSettings,
    ProbedServicesSettings,
    ProbingSettings,
    SchedulerSettings,
    ServiceAccountSettings,
    SshSettings,
    SshTimeoutSettings,
)
from .explain import written
from .loading import load
from .problems import Problem, SettingsError, SourceLocation
from .root import LoggableHeaderSettings, LoggerSettings, Settings
from .section import Section
from .server import ServerSettings
from .shape import ExpectedValue, expected_field_value, expected_value
from .transfers import (
    BucketLifecycleSettings,
    DataOperationSettings,
    MultipartSettings,
    S3TransferSettings,
    StorageSettings,
    StreamerTransferSettings,
    WormholeTransferSettings,
)
from .use import NoEffect, NotSupported, ReadBy, Use

__all__ = [
    "AuthSettings",
    "AuthenticationSettings",
    "BucketLifecycleSettings",
    "ClusterSettings",
    "DataOperationSettings",
    "ExpectedValue",
    "FileSystemSettings",
    "HostKeysSettings",
    "LoggableHeaderSettings",
    "LoggerSettings",
    "MultipartSettings",
    "NoEffect",
    "NotSupported",
    "OpenFgaSettings",
    "ProbedServiceSettings",
    "ProbedServicesSettings",
    "ProbingSettings",
    "Problem",
    "ReadBy",
    "S3TransferSettings",
    "SchedulerSettings",
    "Section",
    "ServerSettings",
    "ServiceAccountSettings",
    "Settings",
    "SettingsError",
    "SourceLocation",
    "SshCaSettings",
    "SshServiceSettings",
    "SshSettings",
    "SshTimeoutSettings",
    "StaticKeysSettings",
    "StorageSettings",
    "StreamerTransferSettings",
    "Use",
    "UserKeysSettings",
    "WormholeTransferSettings",
    "expected_field_value",
    "expected_value",
    "load",
    "require_supported",
    "unsupported",
    "warnings",
    "written",
]
