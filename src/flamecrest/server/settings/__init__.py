"""The configuration: schema, loading from YAML and the environment, validation. Immutable; it knows no adapter."""

from .access import AuthSettings
from .access.accounts import ClusterAccountSettings
from .access.audit import AuditSettings
from .access.authentication import AuthenticationSettings, IntrospectionSettings, IssuerSettings, TokenSettings
from .access.authorization import AuthorizationSettings, OpenFgaSettings, RuleSettings, names_store
from .access.certificates import (
    CertificatesSettings,
    SigningKeyAgentSettings,
    SigningKeyFileSettings,
    SigningKeyTokenSettings,
)
from .access.credentials import SshCaSettings, SshServiceSettings, StaticKeysSettings, UserKeysSettings
from .access.limits import AllowanceSettings, LimitsSettings, VerbLimitSettings
from .access.tokens import NarrowTokenSettings
from .advice import warnings
from .cluster.clusters import (
    ClusterSettings,
    FileSystemSettings,
    HostKeysSettings,
    SshSettings,
    SshTimeoutSettings,
)
from .cluster.health import (
    MaintenanceSettings,
    ProbedServiceSettings,
    ProbedServicesSettings,
    ProbingSettings,
    ServiceAccountSettings,
)
from .cluster.nodes import LoginNodeSettings
from .cluster.schedulers import LocalSettings, SchedulerSettings, SharedReadsSettings
from .cluster.transfers import (
    BucketLifecycleSettings,
    DataOperationSettings,
    MultipartSettings,
    S3TransferSettings,
    StorageSettings,
    StreamerTransferSettings,
    TransferSettings,
    WormholeTransferSettings,
)
from .explain import written
from .loading import find, load
from .problems import Problem, SettingsError, SourceLocation
from .root import LoggableHeaderSettings, LoggerSettings, Settings
from .section import Section
from .server import MetricsSettings, ServerSettings, TracingSettings
from .shape import ExpectedValue, expected_field_value, expected_value
from .use import NoEffect, ReadBy, Use

__all__ = [
    "AllowanceSettings",
    "AuditSettings",
    "AuthSettings",
    "AuthenticationSettings",
    "AuthorizationSettings",
    "BucketLifecycleSettings",
    "CertificatesSettings",
    "ClusterAccountSettings",
    "ClusterSettings",
    "DataOperationSettings",
    "ExpectedValue",
    "FileSystemSettings",
    "HostKeysSettings",
    "IntrospectionSettings",
    "IssuerSettings",
    "LimitsSettings",
    "LocalSettings",
    "LoggableHeaderSettings",
    "LoggerSettings",
    "LoginNodeSettings",
    "MaintenanceSettings",
    "MetricsSettings",
    "MultipartSettings",
    "NarrowTokenSettings",
    "NoEffect",
    "OpenFgaSettings",
    "ProbedServiceSettings",
    "ProbedServicesSettings",
    "ProbingSettings",
    "Problem",
    "ReadBy",
    "RuleSettings",
    "S3TransferSettings",
    "SchedulerSettings",
    "Section",
    "ServerSettings",
    "ServiceAccountSettings",
    "Settings",
    "SettingsError",
    "SharedReadsSettings",
    "SigningKeyAgentSettings",
    "SigningKeyFileSettings",
    "SigningKeyTokenSettings",
    "SourceLocation",
    "SshCaSettings",
    "SshServiceSettings",
    "SshSettings",
    "SshTimeoutSettings",
    "StaticKeysSettings",
    "StorageSettings",
    "StreamerTransferSettings",
    "TokenSettings",
    "TracingSettings",
    "TransferSettings",
    "Use",
    "UserKeysSettings",
    "VerbLimitSettings",
    "WormholeTransferSettings",
    "expected_field_value",
    "expected_value",
    "find",
    "load",
    "names_store",
    "warnings",
    "written",
]
