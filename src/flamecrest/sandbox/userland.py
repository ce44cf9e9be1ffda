"""System programs that know the sandbox's users: id, whoami, chown, chgrp, getent, and perl's stat.

All other programs that a command runs are the machine's own.
"""

# These programs are started often, and pathlib takes longer to import than they run.
# ruff: noqa: PTH116, PTH118, PTH120, PTH123
from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .users import UnixUsers

PROGRAMS = ("id", "whoami", "chown", "chgrp", "getent")
_SYSTEM = ("/usr/local/bin", "/usr/bin", "/bin")
# Programs in Perl read owners by stat(2), and run as the account that runs the sandbox. This module gives them the
# made-up owners and the privacy of home directories. They may open only files that belong to their user: the complete
# Unix rules are implemented by the SFTP server only. It replaces functions in package main, where one-liners are.
_PERL = r"""
package FlamecrestSandbox;
use strict;
my $root = $ENV{FLAMECREST_SANDBOX};
my (%uid, %name, %opened);
if (open my $passwd, '<', "$root/passwd") {
    while (<$passwd>) { my @f = split /:/; $uid{$f[0]} = $f[2]; $name{$f[2]} = $f[0] }
}
sub place {
    my ($path) = @_;
    return if $path !~ m{^\Q$root\E/(?:home|scratch)/([^/]+)(.*)}s || !exists $uid{$1};
    return ($1, substr($path, 0, length($path) - length $2), $2);
}
sub absolute {
    my ($path) = @_;
    return $path if $path =~ m{^/};
    return (readlink('/proc/self/cwd') // '') . ($path eq '.' ? '' : "/$path");
}
sub hidden {
    my ($owner, $folder, $rest) = place($_[0]);
    return 0 if !defined $owner || $owner eq ($ENV{USER} // '');
    for my $part (grep { length } split m{/}, $rest) {
        my @s = CORE::lstat($folder) or return 0;
        return 1 if -d _ && !($s[2] & 1);
        $folder .= "/$part";
    }
    return 0;
}
sub mine {
    my ($owner, $at, $rest) = place(absolute($_[0]));
    return 0 if !defined $owner || $owner ne ($ENV{USER} // '');
    my @parts = grep { length } split m{/}, $rest;
    while (1) {
        my @s = CORE::lstat($at) or return !@parts;
        return 0 if -l _ || $at =~ m{/\.\.\z} || (-d _ ? ~$s[2] & 0700 : ~$s[2] & 0400);
        return 1 if !@parts;
        $at .= '/' . shift @parts;
    }
}
sub owned {
    my ($path, @s) = @_;
    return @s if $ENV{FLAMECREST_REAL_OWNERS};
    my ($owner) = place($path);
    @s[4, 5] = ($uid{$owner}, $uid{$owner}) if @s && defined $owner;
    return @s;
}
sub looked {
    my ($ask, $p) = @_;
    my $path = ref $p ? $opened{fileno($p) // -1} : absolute($p);
    if (hidden($path // '')) { $! = 13; return }
    return owned($path // '', $ask->($p));
}
BEGIN {
    my %ask = (stat => sub { CORE::stat($_[0]) }, lstat => sub { CORE::lstat($_[0]) });
    *main::stat = sub { looked($ask{stat}, @_ ? $_[0] : $_) };
    *main::lstat = sub { looked($ask{lstat}, @_ ? $_[0] : $_) };
    if (eval { require Time::HiRes; Time::HiRes->can('lstat') }) {
        no warnings 'redefine';
        my ($fine, $lfine) = (\&Time::HiRes::stat, \&Time::HiRes::lstat);
        *Time::HiRes::stat = sub { looked($fine, $_[0]) };
        *Time::HiRes::lstat = sub { looked($lfine, $_[0]) };
    }
    *main::sysopen = sub (*$$;$) {
        if (!mine($_[1])) { $! = 13; return }
        my $done = CORE::sysopen($_[0], $_[1], $_[2], $_[3] // 0666);
        $opened{fileno $_[0]} = absolute($_[1]) if $done;
        return $done;
    };
    *main::mkdir = sub (_;$) {
        if (!mine(absolute($_[0]) =~ m{^(.*)/[^/]+/*\z}s)) { $! = 13; return }
        return CORE::mkdir($_[0], $_[1] // 0777);
    };
    *main::opendir = sub (*$) {
        if (!mine($_[1])) { $! = 13; return }
        return CORE::opendir($_[0], $_[1]);
    };
    *main::getpwuid = sub ($) { $name{$_[0]} // scalar CORE::getpwuid($_[0]) };
    *main::getgrgid = sub ($) { $name{$_[0]} // scalar CORE::getgrgid($_[0]) };
}
1;
"""


def install(users: UnixUsers, bin_dir: Path) -> None:
    """Write the programs and their list of users."""
    import shlex  # noqa: PLC0415 - the programs do not need these three
    import shutil  # noqa: PLC0415

    from . import executables  # noqa: PLC0415

    bin_dir.mkdir(parents=True, exist_ok=True)
    passwd = users.root / "passwd"
    passwd.write_text("".join(f"{one.name}:x:{one.uid}:{one.gid}::{one.home}:/bin/bash\n" for one in users))
    for program in PROGRAMS:
        executables.write_program(bin_dir / program, __name__, program, str(passwd))
    (bin_dir / "FlamecrestSandbox.pm").write_text(_PERL)
    perl = shutil.which("perl", path=":".join(_SYSTEM))
    if perl is not None:  # by a program and not by PERL5OPT: the gateway removes perl's variables
        path = bin_dir / "perl"
        path.write_text(f'#!/bin/sh\nexec {perl} -I {shlex.quote(str(bin_dir))} -MFlamecrestSandbox "$@"\n')
        path.chmod(0o755)


def main() -> int:
    """Run one of the programs. sys.argv holds its name, the path of the list of users, and its own arguments."""
    program, passwd, *words = sys.argv[1:]
    with open(passwd, encoding="utf-8") as file:
        users = {fields[0]: fields for fields in (line.split(":") for line in file)}
    me = os.environ.get("USER", "")
    if program == "getent":
        return _getent(users, words)
    if me not in users or (program == "id" and words and words[-1] not in users and not words[-1].startswith("-")):
        return _system(program, words)
    if program == "whoami":
        print(me)
        return 0
    return _id(users, me, words) if program == "id" else _chown(users, me, program, words)


def _system(program: str, words: Sequence[str]) -> int:
    """Replace this process by the machine's program of that name."""
    for folder in _SYSTEM:
        path = os.path.join(folder, program)
        if os.access(path, os.X_OK):
            os.execv(path, [program, *words])
    sys.stderr.write(f"{program}: command not found\n")
    return 127


def _id(users: dict[str, list[str]], me: str, words: list[str]) -> int:
    name = words[-1] if words and not words[-1].startswith("-") else me
    uid = users[name][2]
    flags = "".join(word.lstrip("-") for word in words if word.startswith("-"))
    if not flags:
        print(f"uid={uid}({name}) gid={uid}({name}) groups={uid}({name})")
    else:
        print(name if "n" in flags else uid)
    return 0


def _getent(users: dict[str, list[str]], words: list[str]) -> int:
    if len(words) < 2 or words[0] not in {"passwd", "group"}:
        return _system("getent", words)
    for fields in users.values():
        if words[1] in {fields[0], fields[2]}:
            print(":".join(fields).rstrip("\n") if words[0] == "passwd" else f"{fields[0]}:x:{fields[2]}:")
            return 0
    return _system("getent", words)


def _chown(users: dict[str, list[str]], me: str, program: str, words: list[str]) -> int:
    """Succeed only for giving the user's own files to the same user: no other change is possible without root."""
    given = [word for word in words if not word.startswith("-")]
    if len(given) < 2:
        missing = f"missing operand after '{given[0]}'" if given else "missing operand"
        return _fail(program, missing, f"Try '{program} --help' for more information.")
    spec, *paths = given
    user, _, group = spec.partition(":") if program == "chown" else ("", "", spec)
    for name, kind in ((user, "user"), (group, "group")):
        if name and not name.isdecimal() and name not in users and not _known(name, kind):
            return _fail(program, f"invalid {kind}: '{spec}'")
    status = 0
    for path in paths:
        try:
            os.stat(path)
        except OSError as error:
            status = _fail(program, f"cannot access '{path}': {error.strerror}")
            continue
        if not (_owns(me, path) and {user or me, group or me} <= {me, users[me][2]}):
            what = "ownership" if program == "chown" else "group"
            status = _fail(program, f"changing {what} of '{path}': Operation not permitted")
    return status


def _owns(me: str, path: str) -> bool:
    root = os.path.dirname(sys.argv[2])  # the directory of the list of users
    return f"{os.path.realpath(path)}/".startswith((f"{root}/home/{me}/", f"{root}/scratch/{me}/"))


def _known(name: str, kind: str) -> bool:
    import grp  # noqa: PLC0415 - rarely needed
    import pwd  # noqa: PLC0415 - rarely needed

    try:
        _ = pwd.getpwnam(name) if kind == "user" else grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _fail(program: str, *lines: str) -> int:
    sys.stderr.write(f"{program}: " + "\n".join(lines) + "\n")
    return 1
