"""The faults that the sandbox's SSH server can produce, and its counters."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Faults:
    """Switches. A change takes effect immediately."""

    slow: float = 0.0  # seconds before each command, and before each SFTP request
    silent: bool = False  # new connections are accepted and get no byte
    cut_after: int | None = None  # bytes that the connections together may still send before they are closed
    disabled: set[str] = field(default_factory=set)  # users whose keys are refused
    hanging: set[str] = field(default_factory=set)  # users whose logins get no answer
    no_process: set[str] = field(default_factory=set)  # users who have reached their limit of processes
    no_commands: set[str] = field(default_factory=set)  # users whose commands are refused
    sftp_only: set[str] = field(default_factory=set)  # users for whom every command is an SFTP server (ForceCommand)
    subsystem_by_shell: bool = False  # the SFTP subsystem is a program that the login shell starts
    penalties: bool = False  # OpenSSH's PerSourcePenalties: after three failed logins no connection is taken
    rc_files: bool = False  # shells read ~/.bashrc, as Debian's bash does under sshd


@dataclass(slots=True)
class Counts:
    """Numbers since the start, or now."""

    connections: int = 0  # accepted
    connected: int = 0  # now
    connected_most: int = 0
    startups_refused: int = 0
    penalised: int = 0  # connections refused because of failed logins
    logins: int = 0
    failed_logins: int = 0
    channels: int = 0  # now
    channels_most: int = 0
    channels_opened: int = 0
    channels_refused: int = 0
    commands: int = 0
    sftp_sessions: int = 0
