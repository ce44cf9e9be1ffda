"""The agent replaces files: ACLs, extended attributes, links and modes, on the file system of the tests."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from flamecrest.server.files.remote import agent_requests
from flamecrest.server.files.remote.replacement import questions
from flamecrest.server.files.remote.replacement.questions import Made
from flamecrest.server.files.values import Stat
from flamecrest.server.ssh.channels.agent import PROGRAM, Question, stat_question
from tests.unit.ssh.channels.asking import answers

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
NOBODY = 65534


def acl(*entries: tuple[int, int, int]) -> bytes:
    """A POSIX ACL as Linux stores it in an extended attribute: tag, permissions and id of each entry."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def shared(group: int, mask: int) -> bytes:
    """An ACL that gives rw to one more user."""
    nobody = 0xFFFFFFFF
    return acl((1, 6, nobody), (2, 6, NOBODY), (4, group, nobody), (16, mask, nobody), (32, 0, nobody))


def set_attribute(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EPERM}:
            raise
        pytest.skip(f"this file system has no {name}")


def attributes(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if not name.startswith("security.")}


def small(path: Path, data: bytes = b"new", mode: int | None = None) -> Question[agent_requests.WriteReply]:
    return agent_requests.write(os.fsencode(path), os.fsencode(path.parent / ".new"), data, mode)


def staged(path: Path, data: bytes = b"new", mode: int | None = None) -> Question[questions.Replacement]:
    """As a large upload is finished: the temporary file is there."""
    new = path.parent / ".new"
    new.write_bytes(data)
    new.chmod(0o600)
    return questions.replace(made(new), os.fsencode(path), mode)


def made(path: Path) -> Made:
    found = path.stat()
    return Made(os.fsencode(path), found.st_uid, found.st_size, int(found.st_mtime))


BOTH = pytest.mark.parametrize("ask", [small, staged])


@BOTH
def test_an_acl_and_attributes_are_kept(tmp_path, ask):
    path = tmp_path / "f"
    path.touch(mode=0o600)
    set_attribute(path, "user.origin", b"a\0b")
    set_attribute(path, ACCESS, shared(0, 6))
    before, ino = attributes(path), path.stat().st_ino
    assert stat.S_IMODE(path.stat().st_mode) == 0o660, "the mask is shown in place of the group's rights"
    (done,) = answers(ask(path))
    assert attributes(path) == before
    found = done.stat
    assert found is not None
    assert (found.ino, found.mode) == (path.stat().st_ino, path.stat().st_mode)
    assert found.ino != ino
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@BOTH
@pytest.mark.parametrize("size", [255, 256, 257, 1000])
def test_attributes_of_any_size_are_kept(tmp_path, ask, size):
    path = tmp_path / "f"
    path.touch(mode=0o600)
    set_attribute(path, "user.origin", b"x" * size)
    set_attribute(path, f"user.{'n' * 240}", b"y")
    before = attributes(path)
    answers(ask(path))
    assert path.read_bytes() == b"new"
    assert attributes(path) == before


@BOTH
def test_an_acl_of_the_folder_does_not_open_a_replaced_file(tmp_path, ask):
    path = tmp_path / "f"
    path.touch(mode=0o640)
    set_attribute(tmp_path, DEFAULT, shared(6, 6))
    answers(ask(path))
    assert (attributes(path), stat.S_IMODE(path.stat().st_mode)) == ({}, 0o640)
    assert path.read_bytes() == b"new"


@BOTH
def test_a_mode_that_is_asked_for_is_set_on_a_file_with_an_acl(tmp_path, ask):
    path = tmp_path / "f"
    path.touch(mode=0o600)
    set_attribute(path, ACCESS, shared(4, 6))
    answers(ask(path, mode=0o640))
    assert attributes(path) == {ACCESS: shared(4, 4)}, "as chmod: the group's bits are the mask"


def test_another_link_keeps_the_content_in_step(tmp_path):
    path, link = tmp_path / "f", tmp_path / "g"
    path.write_bytes(b"old")
    link.hardlink_to(path)
    for data in (b"longer than before", b"", b"new"):
        (written,) = answers(small(path, data))
        assert (written.created, written.stat.ino, written.stat.nlink) == (False, link.stat().st_ino, 2)
        assert link.read_bytes() == data
        assert answers(staged(path)) == [questions.Replacement(None)], "a large file is copied by SFTP"
        (tmp_path / ".new").unlink()


def test_the_temporary_file_of_an_existing_one_is_its_owners_only(tmp_path):
    """The program, without what it does about that signal, is killed by a limit on file sizes when it writes."""
    mortal = PROGRAM.replace('$SIG{XFSZ} = "IGNORE";', "")
    assert mortal != PROGRAM
    (tmp_path / "f").touch()
    (tmp_path / "f").chmod(0o666)
    limit = (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    for path in (tmp_path / "f", tmp_path / "g"):
        subprocess.run(
            ["perl", "-e", mortal],
            input=agent_requests.write(os.fsencode(path), os.fsencode(path) + b".new", b"secret", None).text,
            stdout=subprocess.PIPE,  # a limit on file sizes does not hold for a pipe
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
            check=False,
        )
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"f": 0o666, "f.new": 0o600, "g.new": 0o666 & ~umask()}


def umask() -> int:
    found = os.umask(0o022)
    os.umask(found)
    return found


def test_a_new_file_has_the_mode_of_the_users_umask(tmp_path):
    before = os.umask(0o027)
    try:
        (found,) = answers(questions.target(os.fsencode(tmp_path / "f")))
    finally:
        os.umask(before)
    assert found == questions.Target(os.fsencode(tmp_path / "f"), None, owned=True, umask=0o027)
    assert found.new_mode == 0o640


def test_in_a_folder_with_an_acl_that_decides(tmp_path):
    set_attribute(tmp_path, DEFAULT, shared(6, 6))
    (found,) = answers(questions.target(os.fsencode(tmp_path / "f")))
    assert found.new_mode is None


def test_the_target_behind_links(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"123")
    (tmp_path / "d/l").symlink_to("f")
    (tmp_path / "chain").symlink_to("d/l")
    (tmp_path / "nowhere").symlink_to("none")
    os.mkfifo(tmp_path / "fifo")
    names = ("chain", "nowhere", "fifo", "d")
    found, *others = answers(*(questions.target(os.fsencode(tmp_path / name)) for name in names))
    assert (found.path, found.existing.size) == (os.fsencode(tmp_path / "d/f"), 3)
    assert others == [None, None, None]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_may_not_be_written_is_an_error(tmp_path):
    (tmp_path / "f").touch(mode=0o464)
    (found,) = answers(questions.target(os.fsencode(tmp_path / "f")))
    assert found.errno == errno.EACCES


def test_only_the_known_file_is_replaced(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    (numbers,) = answers(stat_question(os.fsencode(path), follow=False))
    known = questions.known(Stat(*numbers))
    path.chmod(0o640)  # a change of ctime
    new, name = tmp_path / ".new", os.fsencode(path)
    new.write_bytes(b"new")
    for wrong in (known, questions.NEW):
        (done,) = answers(questions.replace(made(new), name, None, wrong))
        assert done == questions.Replacement(None, changed=True)
    assert (path.read_bytes(), new.read_bytes()) == (b"old", b"new")
    (numbers,) = answers(stat_question(name, follow=False))
    (done,) = answers(questions.replace(made(new), name, None, questions.known(Stat(*numbers))))
    assert done.stat.size == 3
    assert path.read_bytes() == b"new"
    new.write_bytes(b"first")
    (done,) = answers(questions.replace(made(new), name + b"2", None, questions.NEW))
    assert (done.stat.nlink, (tmp_path / "f2").read_bytes(), new.exists()) == (1, b"first", False)


def test_a_file_that_a_program_has_locked_is_replaced_all_the_same(tmp_path):
    path, new = tmp_path / "f", tmp_path / ".new"
    path.write_bytes(b"old")
    new.write_bytes(b"new")
    with path.open() as opened:
        fcntl.flock(opened, fcntl.LOCK_SH)
        (numbers,) = answers(stat_question(os.fsencode(path), follow=False))
        question = questions.replace(made(new), os.fsencode(path), None, questions.known(Stat(*numbers)))
        assert answers(question)[0].stat is not None
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("target", ["new", "f"])
@pytest.mark.parametrize(
    "swap",
    [
        lambda new: new.symlink_to(new.parent / "private"),
        lambda new: (new.parent / "private").rename(new),
        lambda new: new.mkdir(),
        lambda new: os.link(new.parent / "private", new),
    ],
)
def test_another_file_in_the_place_of_the_temporary_one_stays_private(tmp_path, target, swap):
    """Others who may write to the folder can put a private file of the user there, and have its mode changed."""
    (tmp_path / "f").write_bytes(b"old")
    private, new = tmp_path / "private", tmp_path / ".new"
    private.write_bytes(b"secret")
    private.chmod(0o600)
    new.write_bytes(b"content")
    known = made(new)
    new.unlink()
    swap(new)
    (done,) = answers(questions.replace(known, os.fsencode(tmp_path / target), None))
    assert done.swapped
    assert (tmp_path / "f").read_bytes() == b"old"
    assert not (tmp_path / "new").exists()
    left = private if private.exists() else new
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
