"""The configuration: its schema, read from FirecREST v2 YAML and the environment, frozen; it knows no adapter."""

from .access import (
    AuthenticationSettings,
    AuthSettings,
    OpenFgaSettings,
    SshCaSettings,
    SshServiceSettings,
    StaticKeysSettings,
    UserKeysSettings,
)
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
from .root import LoggableHeaderSettings, LoggerSettings, ServerSettings, Settings
from .section import Section
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
    "OpenFgaSettings",
    "ProbedServiceSettings",
    "ProbedServicesSettings",
    "ProbingSettings",
    "Problem",
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
    "UserKeysSettings",
    "WormholeTransferSettings",
    "expected_field_value",
    "expected_value",
    "load",
    "written",
]
