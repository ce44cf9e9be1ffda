"""The agent: its program run as a process, and the gateway with programs that are not the agent."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
from contextlib import suppress
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamecrest.server.files.remote import agent_requests
from flamecrest.server.files.remote.writing import temporary_beside
from flamecrest.server.files.values import ListingEntry, ListOptions, Stat
from flamecrest.server.ssh.channels.agent import (
    GREETING,
    MAX_UNANSWERED,
    PROGRAM,
    Agent,
    Question,
    read_answer,
    stat_numbers,
)
from flamecrest.server.ssh.errors import ChannelLost, StatError
from flamecrest.server.ssh.pool.connection import Connection
from flamecrest.server.ssh.pool.pool import Pool
from tests.unit.ssh.channels.asking import answers, raw_answers
from tests.unit.ssh.pool.test_pool import ANN, session, sh, soon

pytestmark = pytest.mark.anyio


def read(path: Path) -> Question[agent_requests.SmallFile]:
    return agent_requests.read(os.fsencode(path))


def write(path: Path, data: bytes, mode: int | None = None) -> Question[agent_requests.WriteReply]:
    return agent_requests.write(os.fsencode(path), os.fsencode(path.parent / ".new"), data, mode)


def entries(
    path: Path, *, hidden: bool = False, numeric: bool = True, dereference: bool = False
) -> Question[list[ListingEntry]]:
    return agent_requests.listing(
        os.fsencode(path), UTC, ListOptions(hidden=hidden, numeric=numeric, dereference=dereference)
    )


def test_the_program_is_one_line_for_every_shell_and_compiles_without_warnings():
    assert not set("\n\r'!") & set(PROGRAM)
    assert PROGRAM.isascii()
    checked = subprocess.run(["perl", "-wc", "-e", PROGRAM], capture_output=True, check=True)
    assert checked.stderr == b"-e syntax OK\n"


class TestReading:
    @pytest.mark.parametrize("size", [0, 1, 1024, agent_requests.SMALL])
    def test_a_small_file_is_read_whole(self, tmp_path, size):
        path = tmp_path / "a\nb \xff"
        path.write_bytes(os.urandom(size))
        (found,) = answers(read(path))
        assert found.data == path.read_bytes()
        now = path.stat()
        assert (found.stat.ino, found.stat.size, found.stat.mode) == (now.st_ino, size, now.st_mode)

    def test_of_a_larger_file_only_the_attributes_are_returned(self, tmp_path):
        path = tmp_path / "f"
        path.write_bytes(bytes(agent_requests.SMALL + 1))
        (found,) = answers(read(path))
        assert found.data is None
        assert found.stat.size == agent_requests.SMALL + 1

    def test_links_are_followed_and_a_missing_file_is_an_error(self, tmp_path):
        (tmp_path / "f").write_bytes(b"1")
        (tmp_path / "link").symlink_to("f")
        (tmp_path / "nowhere").symlink_to("none")
        linked, dangling, missing, below = answers(
            *(read(tmp_path / name) for name in ("link", "nowhere", "none", "f/x"))
        )
        assert linked.data == b"1"
        assert [dangling.errno, missing.errno, below.errno] == [errno.ENOENT, errno.ENOENT, errno.ENOTDIR]

    def test_special_files_are_left_to_sftp(self, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "socket"))
        others = [tmp_path, tmp_path / "fifo", tmp_path / "socket", Path("/dev/null"), Path("/proc/self/stat")]
        assert answers(*map(read, others)) == [None] * len(others)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_unreadable_files_are_left_to_sftp(self, tmp_path):
        (tmp_path / "f").touch(mode=0)
        assert answers(read(tmp_path / "f")) == [None]


class TestWriting:
    def test_a_file_is_created_or_replaced(self, tmp_path):
        path = tmp_path / "f\n"
        data = b"a\0b\xff" * 1000
        first, again = answers(write(path, b"first", 0o640), write(path, data))
        assert (first.created, again.created) == (True, False)
        assert path.read_bytes() == data
        assert stat.S_IMODE(path.stat().st_mode) == 0o640, "it keeps its mode"
        assert (again.stat.ino, again.stat.size) == (path.stat().st_ino, len(data))
        assert list(tmp_path.iterdir()) == [path]

    def test_a_limit_of_the_size_of_files_leaves_nothing(self, tmp_path):
        """The signal of the limit would end the agent, and with it leave the temporary file."""
        argv = ["sh", "-c", 'ulimit -f 0; exec perl -e "$1"', "sh", PROGRAM]
        done = subprocess.run(argv, input=write(tmp_path / "f", b"data").text, capture_output=True, check=True)
        assert done.stdout.endswith(b"\0\0\0\1-")
        assert list(tmp_path.iterdir()) == []

    def test_bytes_are_unchanged_by_perl_variables_of_the_account(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PERL_UNICODE", "SDAL")
        path = tmp_path / "f\xe9"
        data = bytes(range(256)) * 10
        written, found, listed = answers(write(path, data), read(path), entries(tmp_path))
        assert written.created
        assert path.read_bytes() == found.data == data
        assert [entry.name for entry in listed] == ["f\xe9"]

    @pytest.mark.parametrize(
        ("mode", "rewritten"), [(0o604, 0o604), (0o1666, 0o1666), (0o4755, 0o755), (0o2711, 0o711), (0o2640, 0o2640)]
    )
    def test_a_replaced_file_keeps_its_mode_without_the_bits_that_a_write_clears(self, tmp_path, mode, rewritten):
        path = tmp_path / "f"
        assert answers(write(path, b"1", mode), write(path, b""))[1].created is False
        assert stat.S_IMODE(path.stat().st_mode) == rewritten

    @pytest.mark.parametrize("mode", [0o444, 0])
    def test_a_write_protected_file_is_left_to_sftp(self, tmp_path, mode):
        path = tmp_path / "f"
        created, again = answers(write(path, b"1", mode), write(path, b""))
        assert (created.created, again) == (True, None)
        assert list(tmp_path.iterdir()) == [path]

    def test_without_a_mode_the_umask_applies(self, tmp_path):
        before = os.umask(0o027)
        try:
            answers(write(tmp_path / "f", b"1"))
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640

    def test_complicated_writes_are_left_to_sftp_and_change_nothing(self, tmp_path):
        (tmp_path / "f").write_bytes(b"old")
        (tmp_path / "link").symlink_to("f")
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "fifo")
        before = sorted(tmp_path.iterdir())
        names = ("link", "folder", "fifo", "none/f", "f/x")
        assert answers(*(write(tmp_path / name, b"new") for name in names)) == [None] * len(names)
        assert sorted(tmp_path.iterdir()) == before
        assert (tmp_path / "f").read_bytes() == b"old"

    def test_an_existing_temporary_file_is_not_overwritten(self, tmp_path):
        (tmp_path / ".new").write_bytes(b"somebody's")
        assert answers(write(tmp_path / "f", b"new")) == [None]
        assert (tmp_path / ".new").read_bytes() == b"somebody's"
        assert not (tmp_path / "f").exists()

    def test_temporary_names_differ(self):
        names = {temporary_beside(b"/a/b") for _ in range(100)}
        assert len(names) == 100
        assert all(re.fullmatch(rb"/a/\.flamecrest-upload-[0-9a-f]{16}", name) for name in names)


class TestListing:
    def test_entries_agree_with_lstat(self, tmp_path):
        odd = os.fsdecode(b"a\xff\nb 1 2  3")
        (tmp_path / odd).write_bytes(b"12345")
        (tmp_path / ".hidden").touch()
        (tmp_path / "folder").mkdir(mode=0o750)
        (tmp_path / "link").symlink_to("to \n where")
        os.utime(tmp_path / odd, (0, 1_000_000_000))
        (found,) = answers(entries(tmp_path))
        shown = {entry.name: entry for entry in found}
        assert set(shown) == {odd, "folder", "link"}
        uid, gid = str(os.getuid()), str(os.getgid())
        times = ("2001-09-09T01:46:40", None, 1_000_000_000)
        assert shown[odd] == (odd, "-", shown[odd].permissions, uid, gid, 5, *times)
        assert (shown["folder"].kind, shown["link"].link_target) == ("d", "to \n where")
        (hidden,) = answers(entries(tmp_path, hidden=True))
        assert {entry.name for entry in hidden} == {odd, "folder", "link", ".hidden"}

    def test_names_of_owners(self, tmp_path):
        (tmp_path / "f").touch()
        user = subprocess.run(["id", "-un"], capture_output=True, check=True, text=True).stdout.strip()
        (found,) = answers(entries(tmp_path, numeric=False))
        assert found[0].user == user

    def test_an_empty_directory(self, tmp_path):
        assert answers(entries(tmp_path)) == [[]]

    def test_links_in_a_listing(self, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "f").touch()
        (tmp_path / "link").symlink_to("folder")
        itself, behind, followed, inside = answers(
            entries(tmp_path / "link"),
            agent_requests.listing(os.fsencode(tmp_path / "link") + b"/", UTC, ListOptions(numeric=True)),
            entries(tmp_path / "link", dereference=True),
            entries(tmp_path, dereference=True),  # contains a link, whose target needs another question
        )
        assert (itself, inside) == (None, None)
        assert [entry.name for entry in behind] == [entry.name for entry in followed] == ["f"]

    def test_other_files_and_large_directories_are_left_to_sftp(self, tmp_path):
        for name in ("a", "b", "c"):
            (tmp_path / name).touch()
        most = [Question(b"d", b"\0%d\0%b" % (count, os.fsencode(tmp_path)), bytes) for count in (2, 3)]
        left, listed, file, missing = answers(*most, entries(tmp_path / "a"), entries(tmp_path / "none"))
        assert (left, file, missing) == (None, None, None)
        assert listed.count(b"\0") == 3 + 3


class TestTheWire:
    def test_unknown_questions_are_left_to_sftp(self):
        assert raw_answers(struct.pack(">cI", b"z", 3) + b"abc" + struct.pack(">cI", b"z", 0)) == [b"-", b"-"]

    @pytest.mark.parametrize("end", range(1, 9))
    def test_an_incomplete_question_is_not_answered(self, end):
        asked = agent_requests.read(b"/etc").text
        assert raw_answers(asked + asked[:end]) == [b"-"]

    def test_an_impossible_question_length_ends_it(self):
        asked = agent_requests.read(b"/etc").text + struct.pack(">cI", b"r", 2**32 - 1)
        done = subprocess.run(["perl", "-e", PROGRAM], input=asked, capture_output=True, check=False, timeout=20)
        assert (done.returncode, done.stdout, done.stderr) == (1, b"flamecrest agent\n\0\0\0\1-", b"")

    @settings(max_examples=12)  # each starts a process
    @given(st.lists(st.tuples(st.sampled_from([b"l", b"s", b"r", b"d", b"z"]), st.binary(max_size=30)), max_size=5))
    def test_every_question_is_answered(self, asked):
        found = raw_answers(b"".join(struct.pack(">cI", letter, len(text)) + text for letter, text in asked))
        assert len(found) == len(asked)
        assert all(answer[:1] in {b"=", b"-", b"~"} for answer in found)

    @given(
        st.sampled_from([agent_requests.read(b"/f"), entries(Path("/f")), write(Path("/f"), b"")]),
        st.binary(max_size=60),
    )
    def test_an_answer_is_read_or_refused(self, question, answer):
        with suppress(StatError, ValueError):
            read_answer(question, answer)

    def test_attributes_are_fourteen_numbers(self):
        assert Stat(*stat_numbers(b"1 2 3 4 5 6 7 8 9 10 11 12 13 14")).size == 8
        with pytest.raises(ValueError, match="14"):
            stat_numbers(b"1 2 3")


# what a program must read and print before it is asked: the source, then the greeting
GREETS = f"head -c {len(PROGRAM)} >/dev/null; echo {GREETING}; "


def instead_of_perl(world, program: str) -> None:
    """Have the account's login script put another program in perl's place."""
    world.server.faults.rc_files = True
    home = world.server.users["ann"].home
    (home / "bin").mkdir(exist_ok=True)
    (home / "bin" / "perl").write_text(f"#!/bin/sh\n{program}\n")
    (home / "bin" / "perl").chmod(0o755)
    (home / ".bashrc").write_text("PATH=$HOME/bin:$PATH\n")


def connected(pool: Pool) -> Connection:
    """The connection over which the next question goes."""
    (connection,) = pool.connections(ANN)
    return connection


async def started(pool: Pool) -> Agent:
    """The agent that answers the next question."""
    await session(pool).ask(agent_requests.read(b"/etc/passwd"), soon())
    agent = connected(pool).shared(Agent)
    assert agent is not None
    return agent


@pytest.mark.parametrize(
    "program",
    [
        "exit 127",
        "exit 2",  # as perl without a module
        "head -c 1 >/dev/null; exit 255",
        GREETS + "head -c 1 >/dev/null; exit 0",
        GREETS + "head -c 1 >/dev/null; echo 'Good morning'; exec cat >/dev/null",
        GREETS + "head -c 1 >/dev/null; printf '\\0\\0\\0\\3=ab'; exec cat >/dev/null",
        GREETS + "head -c 1 >/dev/null; printf '\\0\\0\\0\\0'; exec cat >/dev/null",
        GREETS + "head -c 1 >/dev/null; printf '\\377\\0\\0\\0'; exec cat >/dev/null",
        GREETS + "printf '\\0\\0\\0\\1-\\0\\0\\0\\1-'; exec cat >/dev/null",
    ],
)
async def test_a_program_that_is_not_our_agent_is_not_used(world, program):
    instead_of_perl(world, program)
    async with world.pool() as pool:
        me = session(pool)
        for _ in range(2):
            assert len(await me.stat("/", soon(), follow=True)) == 14
        connection = connected(pool)
        assert connection.shared(Agent) is None
        assert await me.ask(agent_requests.read(b"/etc/passwd"), soon()) is None


async def test_perl_without_time_hires_gives_whole_seconds(world):
    """Neither Debian's perl-base nor Fedora's perl-interpreter contains Time::HiRes."""
    folder = world.server.users["ann"].home / "lib" / "Time"
    folder.mkdir(parents=True)
    (folder / "HiRes.pm").write_text("die;\n")
    instead_of_perl(world, f'exec {shutil.which("perl")} -I {folder.parent} "$@"')
    path = world.root / "f"
    path.write_bytes(b"123")
    os.utime(path, ns=(5 * 10**8, 15 * 10**8))
    async with world.pool() as pool:
        agent = await started(pool)
        found = Stat(*await session(pool).stat(str(path), soon(), follow=True))
        assert (found.size, found.mtime, found.mtime_ns) == (3, 1, None)
        assert connected(pool).shared(Agent) is agent


async def test_a_change_that_an_agent_does_not_confirm_is_not_made_twice(world):
    instead_of_perl(world, GREETS + "head -c 1 >/dev/null; printf '\\0\\0\\0\\3=ab'; exec cat >/dev/null")
    async with world.pool() as pool:
        with pytest.raises(ChannelLost):
            await session(pool).ask(write(world.root / "f", b"1"), soon())


async def test_an_agent_with_too_many_questions_leaves_the_next_to_sftp(world):
    path = world.server.users["ann"].home / "f"
    async with world.pool() as pool:
        me = session(pool)
        agent = await started(pool)
        asked = agent_requests.read(b"/x" * 1000)
        held = [agent.ask(asked) for _ in range(MAX_UNANSWERED // len(asked.text) + 1)]
        assert agent._unanswered > MAX_UNANSWERED
        assert await me.ask(write(path, b"1"), soon()) is None
        for answer in await asyncio.gather(*held, return_exceptions=True):
            assert isinstance(answer, StatError)
        written = await me.ask(write(path, b"1"), soon())
        assert written is not None
        assert written.created


async def test_slow_questions_wait_in_the_gateway_and_equal_ones_share_an_answer(world):
    home = world.server.users["ann"].home
    for name in ("a", "b", "c"):
        (home / name).mkdir()
        (home / name / f"in {name}").touch()
    async with world.pool() as pool:
        agent = await started(pool)
        sent = pool.counters.bytes_sent
        found = [agent.ask(entries(home / name)) for name in "aabbbcccaad"]
        quick = agent_requests.read(b"/etc/passwd")
        answer = agent.ask(quick)
        found[3].cancel()  # a cancelled request does not affect the others
        found[5].cancel()
        found[10].cancel()  # a question without a request is not sent
        await answer
        assert not found[-2].done(), "what is quick does not wait for all that is slow"
        listed = [await future for future in found if not future.cancelled()]
        names = ["".join(entry.name for entry in one or ()) for one in listed]
        assert names == ["in a", "in a", "in b", "in b", "in c", "in c", "in a", "in a"]
        each = len(entries(home / "a").text)
        assert pool.counters.bytes_sent - sent == 5 * each + len(quick.text), "those not sent yet are asked once"
        assert agent._unanswered == 0


async def test_an_agent_that_changes_something_is_not_closed_for_a_command(world):
    async with world.pool(max_sessions=1, per_user=1) as pool:
        me = session(pool)
        agent = await started(pool)
        connection = connected(pool)
        answer = agent.ask(write(world.root / "home" / "ann" / "f", b"1"))
        connection.close_shared()
        assert not agent.closed
        assert connection.shared(Agent) is agent
        assert await answer is not None
        await me.run(sh("true"), soon())
        assert connection.shared(Agent) is None
