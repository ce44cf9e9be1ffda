"""Our SFTP server in perl, as a process: every request, and malformed packets."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flamecrest.server.ssh.channels import sftp_packets as p
from flamecrest.server.ssh.channels.sftp_packets import Attrs, string
from flamecrest.server.ssh.channels.sftp_program import PROGRAM
from tests.unit.ssh.channels.sftp_play import play
from tests.unit.ssh.channels.sftp_speaker import OPENSSH, OURS, SftpError, Speaker, packets, speaking

READ, WRITE, APPEND, CREATE, TRUNCATE, EXCLUSIVE = 1, 2, 4, 8, 16, 32
INIT = struct.pack(">IBI", 5, p.INIT, 3)
NEW = WRITE | CREATE | EXCLUSIVE


@pytest.fixture
def speaker(tmp_path: Path) -> Iterator[Speaker]:
    with speaking(OURS, tmp_path) as found:
        found.hello()
        yield found


def refused(code: int):
    return pytest.raises(SftpError, check=lambda error: error.code == code)


# --- the program


def test_one_line_that_every_login_shell_takes():
    assert not set("\n\r'!") & set(PROGRAM)
    assert PROGRAM.isascii()


def test_perl_compiles_it_without_warnings():
    checked = subprocess.run(["perl", "-wc", "-e", PROGRAM], capture_output=True, check=True)
    assert checked.stderr == b"-e syntax OK\n"


@pytest.mark.live
@pytest.mark.skipif(not Path(OPENSSH[0]).exists(), reason="needs openssh-sftp-server")
def test_it_answers_as_openssh_does(tmp_path):
    played = []
    for name, argv in (("ours", OURS), ("open", OPENSSH)):  # names of one length, since they are in the size of a link
        folder = tmp_path / name
        folder.mkdir()
        with speaking(argv, folder) as speaker:
            speaker.hello()
            played.append(play(speaker, folder))
    ours, theirs = played
    assert ours == theirs
    assert len(ours) > 100


def test_environment_for_other_programs_changes_nothing(tmp_path):
    name = "ünï".encode()
    with speaking(OURS, tmp_path, PERL_UNICODE="SDA", LC_ALL="C.UTF-8") as speaker:
        speaker.hello()
        speaker.file(name, b"\xff\xfe\x80")
        assert (tmp_path / "ünï").read_bytes() == b"\xff\xfe\x80"
        assert name in {entry.name for entry in speaker.folder(b".")}
        assert speaker.attrs(p.STAT, name).size == 3


@pytest.mark.parametrize("path", [b"/etc/x", b"//etc//x", b"..", b"d/../../x"])
def test_these_tests_change_nothing_outside_their_folder(speaker, path):
    for kind in (p.OPEN, p.SETSTAT, p.REMOVE, p.MKDIR, p.RMDIR):
        with pytest.raises(AssertionError, match=f"request {kind} for"):
            speaker.raw(kind, string(path))
    for kind, first in ((p.RENAME, b"f"), (p.SYMLINK, b"f"), (p.EXTENDED, b"posix-rename@openssh.com")):
        with pytest.raises(AssertionError, match=f"request {kind} for"):
            speaker.raw(kind, string(first) + string(path))


# --- every request


def test_greeting_and_limits(tmp_path):
    with speaking(OURS, tmp_path) as speaker:
        assert speaker.hello() == {
            b"fsync@openssh.com": b"1",
            b"hardlink@openssh.com": b"1",
            b"limits@openssh.com": b"1",
            b"posix-rename@openssh.com": b"1",
        }
        limits = p.limits_reply(speaker.raw(p.EXTENDED, string(b"limits@openssh.com")))
        assert limits == (262144, 261120, 261120, 0)


def test_files_up_and_down(speaker, tmp_path):
    content = os.urandom(700_000)
    handle = speaker.open(b"f", READ | NEW, Attrs(mode=0o666))
    for at in range(0, len(content), 261_120):
        speaker.write(handle, at, content[at : at + 261_120])
    assert (tmp_path / "f").read_bytes() == content
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640  # the umask of the login
    assert speaker.read(handle, 0, 1 << 20) == content[:261_120]
    assert speaker.read(handle, 699_999, 10) == content[-1:]
    assert speaker.read(handle, 700_000, 10) == b""
    speaker.extended(b"fsync@openssh.com", string(handle))
    assert p.attrs_reply(speaker.raw(p.FSTAT, string(handle))).size == 700_000
    speaker.close(handle)
    with refused(p.FAILURE):
        speaker.read(handle, 0, 1)


def test_open_flags(speaker, tmp_path):
    speaker.file(b"f", b"0123")
    with refused(p.FAILURE):
        speaker.open(b"f", NEW)
    with refused(p.NO_SUCH_FILE):
        speaker.open(b"none", READ)
    handle = speaker.open(b"f", WRITE | APPEND)
    speaker.write(handle, 0, b"45")
    assert (tmp_path / "f").read_bytes() == b"012345"
    handle = speaker.open(b"f", WRITE | TRUNCATE)
    assert (tmp_path / "f").read_bytes() == b""
    with refused(p.NO_SUCH_FILE):  # EBADF, as in OpenSSH
        speaker.read(handle, 0, 1)


@pytest.mark.parametrize("offset", [2**31, 2**32 + 1, 2**40])
def test_large_offsets(speaker, tmp_path, offset):
    handle = speaker.open(b"f", READ | NEW)
    speaker.write(handle, offset, b"far")
    assert speaker.read(handle, offset - 1, 9) == b"\0far"
    assert (tmp_path / "f").stat().st_size == offset + 3
    assert p.attrs_reply(speaker.raw(p.FSTAT, string(handle))).size == offset + 3
    speaker.do(p.FSETSTAT, string(handle), Attrs(size=offset).packed())
    assert speaker.read(handle, offset, 9) == b""


def test_attributes(speaker, tmp_path):
    speaker.file(b"f", b"123")
    (tmp_path / "l").symlink_to("f")
    given = Attrs(size=2, mode=0o604, atime=1, mtime=2**32 - 1, uid=os.getuid(), gid=os.getgid())
    speaker.do(p.SETSTAT, string(b"l"), given.packed())
    found = speaker.attrs(p.LSTAT, b"f")
    assert found == Attrs(2, os.getuid(), os.getgid(), stat.S_IFREG | 0o604, 1, 2**32 - 1)
    assert speaker.attrs(p.STAT, b"l") == found
    assert stat.S_ISLNK(speaker.attrs(p.LSTAT, b"l").mode or 0)
    with refused(p.NO_SUCH_FILE):
        speaker.do(p.SETSTAT, string(b"none"), Attrs(mode=0o600).packed())
    with refused(p.NO_SUCH_FILE):
        speaker.attrs(p.STAT, b"none")


def test_directories(speaker, tmp_path):
    names = {b"f%03d" % n for n in range(250)} | {b"new\nline", b"\xff\xfe", b" tail ", b"-rf", b"'q\""}
    speaker.do(p.MKDIR, string(b"d"), Attrs(mode=0o755).packed())
    for name in names:
        speaker.file(b"d/" + name)
    entries = {entry.name: entry for entry in speaker.folder(b"d")}
    assert set(entries) == names | {b".", b".."}
    one = entries[b"\xff\xfe"]
    assert one.attrs == speaker.attrs(p.LSTAT, b"d/\xff\xfe")
    words = one.longname.split()
    assert (words[0], words[1], words[4], words[-1]) == (b"-rw-r-----", b"1", b"0", b"\xff\xfe")
    with refused(p.FAILURE):
        speaker.do(p.RMDIR, string(b"d"))
    for name in names:
        speaker.do(p.REMOVE, string(b"d/" + name))
    speaker.do(p.RMDIR, string(b"d"))
    assert not (tmp_path / "d").exists()
    with refused(p.NO_SUCH_FILE):
        speaker.opendir(b"d")


def test_renames(speaker, tmp_path):
    speaker.file(b"a", b"a")
    speaker.file(b"b", b"b")
    with refused(p.FAILURE):
        speaker.do(p.RENAME, string(b"a"), string(b"b"))
    assert (tmp_path / "b").read_bytes() == b"b"
    speaker.do(p.RENAME, string(b"a"), string(b"c"))
    assert not (tmp_path / "a").exists()
    speaker.extended(b"posix-rename@openssh.com", string(b"c"), string(b"b"))
    assert (tmp_path / "b").read_bytes() == b"a"
    speaker.extended(b"hardlink@openssh.com", string(b"b"), string(b"h"))
    assert (tmp_path / "h").samefile(tmp_path / "b")
    speaker.do(p.SYMLINK, string(b"target/of"), string(b"link"))
    assert (tmp_path / "link").readlink() == Path("target/of")
    assert [n.name for n in speaker.names(p.READLINK, b"link")] == [b"target/of"]
    (tmp_path / "d").mkdir()
    with refused(p.FAILURE):
        speaker.do(p.RENAME, string(b"d"), string(b"b"))
    speaker.do(p.RENAME, string(b"d"), string(b"e"))
    assert (tmp_path / "e").is_dir()


def test_paths_are_resolved(speaker, tmp_path):
    def real(path: bytes) -> bytes:
        return bytes(speaker.names(p.REALPATH, path)[0].name)

    (tmp_path / "d").mkdir()
    (tmp_path / "l").symlink_to("d")
    (tmp_path / "loop").symlink_to("loop")
    here = os.fsencode(tmp_path.resolve())
    assert real(b"") == real(b".") == here
    assert real(b"l/../l//new") == here + b"/d/new"
    assert real(b"/..//.") == b"/"
    for path in (b"none/x", b"loop"):
        with refused(p.NO_SUCH_FILE):
            real(path)


def test_unknown_requests_are_unsupported(speaker):
    for name in (b"statvfs@openssh.com", b"", b"\0\xff" * 1000):
        assert speaker.code(p.EXTENDED, string(name), string(b".")) == p.UNSUPPORTED
    for kind in (0, 2, 21, 101, 255):
        assert speaker.code(kind, string(b".")) == p.UNSUPPORTED


# --- malformed packets

HANDLE = string(b"\0\0\0\0")  # of a file that the test opens first
BODIES = {
    p.OPEN: string(b"new") + struct.pack(">I", NEW) + Attrs(mode=0o600).packed(),
    p.CLOSE: HANDLE,
    p.READ: HANDLE + struct.pack(">QI", 0, 1),
    p.WRITE: HANDLE + struct.pack(">Q", 0) + string(b"data"),
    p.LSTAT: string(b"f"),
    p.FSTAT: HANDLE,
    p.SETSTAT: string(b"f") + Attrs(1, 1, 1, 1, 1, 1).packed(),
    p.FSETSTAT: HANDLE + Attrs(1, 1, 1, 1, 1, 1).packed(),
    p.OPENDIR: string(b"."),
    p.READDIR: HANDLE,
    p.REMOVE: string(b"f"),
    p.MKDIR: string(b"new") + Attrs(mode=0o700).packed(),
    p.RMDIR: string(b"d"),
    p.REALPATH: string(b"f"),
    p.STAT: string(b"f"),
    p.RENAME: string(b"f") + string(b"new"),
    p.READLINK: string(b"l"),
    p.SYMLINK: string(b"f") + string(b"new"),
    p.EXTENDED: string(b"hardlink@openssh.com") + string(b"f") + string(b"new"),
}


def test_a_request_cut_anywhere_is_refused_and_changes_nothing(speaker, tmp_path):
    speaker.file(b"f", b"content")
    (tmp_path / "d").mkdir()
    (tmp_path / "l").symlink_to("f")
    before = sorted(tmp_path.iterdir())
    assert speaker.open(b"f", READ | WRITE)
    for kind, body in BODIES.items():
        for size in range(len(body)):
            assert speaker.code(kind, body[:size]) == p.BAD_MESSAGE, (kind, size)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "f").read_bytes() == b"content"


def test_a_path_with_a_nul_byte_is_refused(speaker, tmp_path):
    speaker.file(b"f")
    for kind in (p.LSTAT, p.REMOVE, p.OPENDIR, p.REALPATH, p.READLINK):
        assert speaker.code(kind, string(b"f\0x")) == p.BAD_MESSAGE
    assert (tmp_path / "f").exists()


@pytest.mark.parametrize("handle", [b"", b"\0\0\0\1", b"\0\0\0\0\0", b"f", b"STDIN", b"x" * 300])
def test_unknown_handles(speaker, handle):
    speaker.opendir(b".")  # its handle is \0\0\0\0, and not a file's
    rest = struct.pack(">QI", 0, 0)
    for kind in (p.READ, p.WRITE, p.FSTAT, p.FSETSTAT, p.READDIR):
        body = rest if kind in {p.READ, p.WRITE} else p.NO_ATTRS.packed()
        assert speaker.code(kind, string(handle), body) == p.FAILURE
        if kind != p.READDIR:
            assert speaker.code(kind, string(b"\0\0\0\0"), body) == p.FAILURE
    assert speaker.code(p.CLOSE, string(handle)) == p.NO_SUCH_FILE


@pytest.mark.parametrize("size", [0, 4, 262_145, 2**31, 2**32 - 1])
def test_an_impossible_packet_length_ends_it(tmp_path, size):
    with speaking(OURS, tmp_path) as speaker:
        speaker.send(INIT + struct.pack(">IBI", size, p.STAT, 1))
        status, out = speaker.ended()
    assert status == 1
    assert len(packets(out)) == 1


def test_a_request_before_the_greeting_ends_it(tmp_path):
    with speaking(OURS, tmp_path) as speaker:
        speaker.send(struct.pack(">IBI", 5, p.REMOVE, 1))
        assert speaker.ended() == (1, b"")


def test_it_ends_with_its_input(speaker):
    assert speaker.ended() == (0, b"")


def test_pipelined_requests_are_answered_in_order(speaker):
    speaker.file(b"f", bytes(100_000))
    handle = speaker.open(b"f", READ)
    asked = [(number, 300 * number) for number in range(2000)]
    for number, offset in asked:
        body = string(handle) + struct.pack(">QI", offset, 300)
        speaker.send(struct.pack(">IBI", len(body) + 5, p.READ, number) + body)
        if number % 100 == 99:
            answers = [speaker.packet() for _ in range(100)]
            assert [struct.unpack_from(">I", a, 1)[0] for a in answers] == list(range(number - 99, number + 1))


LOOKING = (p.READ, p.LSTAT, p.FSTAT, p.OPENDIR, p.READDIR, p.REALPATH, p.STAT, p.READLINK, p.CLOSE, p.EXTENDED, 0, 77)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.sampled_from(LOOKING), st.binary(max_size=60) | st.binary(max_size=30).map(string))),
    st.binary(max_size=20),
)
def test_each_of_any_packets_is_answered(tmp_path, requests, rest):
    """Only whole packets; a rest is dropped with the channel."""
    sent = [struct.pack(">IBI", len(body) + 5, kind, n) + body for n, (kind, body) in enumerate(requests)]
    with speaking(OURS, tmp_path) as speaker:
        speaker.send(INIT + b"".join(sent))
        heard = [speaker.packet() for _ in range(len(sent) + 1)]
        speaker.send(rest)
        status, _ = speaker.ended()
    assert [struct.unpack_from(">I", packet, 1)[0] for packet in heard[1:]] == list(range(len(sent)))
    assert status in {0, 1}
