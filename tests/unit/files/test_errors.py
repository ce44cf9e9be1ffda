"""The reasons of failed file operations, from SFTP, stat(2) and the output of programs."""

from __future__ import annotations

import errno
import os

import pytest

from flamecrest.server.errors import Conflict, Denied, GatewayError, Invalid, NotFound, Unsupported, Upstream
from flamecrest.server.files.remote.commands.command_errors import check_success
from flamecrest.server.files.remote.errors import REASONS, operation_error, reason_kind
from flamecrest.server.ssh.channels.sftp_packets import SftpError
from flamecrest.server.ssh.command import Output
from flamecrest.server.ssh.errors import StatError

PREFIX = "stat: cannot statx '/x'"


def test_texts_are_those_of_strerror() -> None:
    assert {text for text, _ in REASONS.values()} == {os.strerror(number) for number in REASONS}


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, NotFound),
        (errno.EACCES, Denied),
        (errno.ENOTDIR, Invalid),
        (errno.EEXIST, Conflict),
        (errno.ESTALE, Upstream),
    ],
)
def test_errno_gives_kind_and_text(number: int, kind: type[GatewayError]) -> None:
    error = operation_error(StatError(number), PREFIX)
    assert type(error) is kind
    assert error.public == f"{PREFIX}: {os.strerror(number)}"


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (2, NotFound, "No such file or directory"),
        (3, Denied, "Permission denied"),
        (8, Unsupported, "the server does not support this"),
        (4, Upstream, "the server's message"),
        (4711, Upstream, "the server's message"),
    ],
)
def test_sftp_status_gives_kind_and_text(code: int, kind: type[GatewayError], text: str) -> None:
    error = operation_error(SftpError(code, "the server's message"), PREFIX)
    assert type(error) is kind
    assert error.public == f"{PREFIX}: {text}"


def test_sftp_failure_without_a_message() -> None:
    assert operation_error(SftpError(4, ""), PREFIX).public == f"{PREFIX}: Failure"


def test_unknown_reason_has_no_kind() -> None:
    assert reason_kind("Permission denied") is Denied
    assert reason_kind("Ran out of coffee") is None


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("rm: cannot remove 'a\nb': Permission denied", Denied),
        ("rm: cannot remove 'x': No space left on device", Upstream),
        ("chown: invalid user: 'x'", Invalid),
        ("cp: cannot copy a directory, 'a', into itself, 'a/b'", Invalid),
        ("", Upstream),
    ],
)
def test_failed_command_gives_kind(stderr: str, kind: type[GatewayError]) -> None:
    with pytest.raises(GatewayError) as caught:
        check_success(Output(1, b"", stderr.encode()))
    assert type(caught.value) is kind
