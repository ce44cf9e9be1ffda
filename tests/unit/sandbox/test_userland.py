"""The system programs that know the sandbox's users."""

from __future__ import annotations

import pytest

from .conftest import ToyShell


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("id", "uid=1001(fireuser) gid=1001(fireuser) groups=1001(fireuser)\n"),
        ("id -u", "1001\n"),
        ("id -un", "fireuser\n"),
        ("id -g -n", "fireuser\n"),
        ("id user01", "uid=1003(user01) gid=1003(user01) groups=1003(user01)\n"),
        ("id -u root", "0\n"),
        ("whoami", "fireuser\n"),
        ("getent passwd 0 | cut -d: -f1", "root\n"),
        ("getent passwd user01 | cut -d: -f3", "1003\n"),
        ("getent group 1002", "firesrv:x:1002:\n"),
    ],
)
def test_user_names_and_numbers(shared_shell: ToyShell, line: str, result: str) -> None:
    assert shared_shell.run(line).out == result


@pytest.mark.parametrize(
    ("line", "status", "error"),
    [
        ("chown fireuser file", 0, ""),
        ("chown -- fireuser:fireuser file", 0, ""),
        ("chown 1001:1001 file", 0, ""),
        ("chown :fireuser file", 0, ""),
        ("chgrp fireuser file", 0, ""),
        ("chown user01 file", 1, "chown: changing ownership of 'file': Operation not permitted\n"),
        ("chown :user01 file", 1, "chown: changing ownership of 'file': Operation not permitted\n"),
        ("chgrp user01 file", 1, "chgrp: changing group of 'file': Operation not permitted\n"),
        ("chown root file", 1, "chown: changing ownership of 'file': Operation not permitted\n"),
        ("chown fireuser /etc/passwd", 1, "chown: changing ownership of '/etc/passwd': Operation not permitted\n"),
        ("chown nobody9 file", 1, "chown: invalid user: 'nobody9'\n"),
        ("chown nobody9:fireuser file", 1, "chown: invalid user: 'nobody9:fireuser'\n"),
        ("chown fireuser:nobody9 file", 1, "chown: invalid group: 'fireuser:nobody9'\n"),
        ("chown fireuser nothing", 1, "chown: cannot access 'nothing': No such file or directory\n"),
        ("chown", 1, "chown: missing operand\nTry 'chown --help' for more information.\n"),
        ("chown fireuser", 1, "chown: missing operand after 'fireuser'\nTry 'chown --help' for more information.\n"),
        (
            "ln -sf /etc/passwd link; chown fireuser link",
            1,
            "chown: changing ownership of 'link': Operation not permitted\n",
        ),
        ("chown fireuser file nothing file", 1, "chown: cannot access 'nothing': No such file or directory\n"),
    ],
)
def test_owner_cannot_be_changed(shared_shell: ToyShell, line: str, status: int, error: str) -> None:
    (shared_shell.users["fireuser"].home / "file").touch()
    result = shared_shell.run(line)
    assert (result.status, result.out, result.err) == (status, "", error)
