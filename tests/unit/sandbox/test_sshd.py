"""The sandbox's SSH server, used by a plain asyncssh client."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from flamecrest.sandbox import processes

from .conftest import SshdSite, alive, started

pytestmark = [pytest.mark.exhaustive, pytest.mark.anyio]


async def gone(pid: int) -> None:
    while alive(pid):
        await asyncio.sleep(0.01)


class TestCommands:
    async def test_output_error_and_status(self, site: SshdSite) -> None:
        async with site.login() as connection:
            done = await connection.run("echo out; echo err >&2; exit 3")
        assert (done.stdout, done.stderr, done.exit_status) == ("out\n", "err\n", 3)

    async def test_directory_and_environment(self, site: SshdSite) -> None:
        async with site.login("user01") as connection:
            done = await connection.run('pwd; echo "$HOME $USER $LOGNAME $SHELL"; id; whoami; echo "$PATH"; umask')
        home = site.users["user01"].home
        assert str(done.stdout).splitlines() == [
            str(home),
            f"{home} user01 user01 /bin/bash",
            "uid=1003(user01) gid=1003(user01) groups=1003(user01)",
            "user01",
            f"{site.users.root}/bin:/usr/local/bin:/usr/bin:/bin",
            "0022",
        ]

    async def test_only_locale_variables_are_accepted(self, site: SshdSite) -> None:
        async with site.login() as connection:
            given = {"LC_ALL": "C", "LANG": "C", "EVIL": "1", "LD_PRELOAD": "/x", "PATH": "/nowhere"}
            done = await connection.run("env", env=given)
        names = {line.partition("=")[0] for line in str(done.stdout).splitlines()}
        assert {"LC_ALL", "LANG", "SSH_CLIENT", "SSH_CONNECTION"} <= names
        assert not {"EVIL", "LD_PRELOAD"} & names
        assert "/nowhere" not in str(done.stdout)

    async def test_rc_files_are_read_only_with_the_switch(self, site: SshdSite) -> None:
        (site.users["fireuser"].home / ".bashrc").write_text("echo noise\n")
        async with site.login() as connection:
            assert (await connection.run("echo x")).stdout == "x\n"
            site.server.faults.rc_files = True
            assert (await connection.run("echo x")).stdout == "noise\nx\n"

    async def test_command_of_arbitrary_bytes(self, site: SshdSite) -> None:
        (site.users["fireuser"].home / os.fsdecode(b"\xff\xfe name")).write_text("found")
        async with site.login() as connection:
            raw: Any = b"cat '\xff\xfe name'"
            chan, session = await connection.create_session(_Bytes, raw, encoding=None)
            await chan.wait_closed()
        assert isinstance(session, _Bytes)
        assert session.data == b"found"

    async def test_input_of_any_size_is_echoed(self, site: SshdSite) -> None:
        data = os.urandom(3 * 1024 * 1024)
        async with site.login() as connection:
            done = await connection.run("cat", input=data, encoding=None)
        assert isinstance(done.stdout, bytes)
        assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()

    async def test_command_without_input_gets_end_of_file(self, site: SshdSite) -> None:
        async with site.login() as connection:
            assert (await connection.run("wc -c", stdin=asyncssh.DEVNULL)).stdout == "0\n"

    async def test_unread_input_is_discarded(self, site: SshdSite) -> None:
        async with site.login() as connection:
            done = await connection.run("exec <&-; echo ready", input=b"x" * 5_000_000, encoding=None)
        assert (done.stdout, done.exit_status) == (b"ready\n", 0)

    async def test_large_output_waits_for_a_slow_reader(self, site: SshdSite) -> None:
        async with site.login() as connection:
            process = await connection.create_process("head -c 20000000 /dev/zero", encoding=None)
            await asyncio.sleep(0.1)
            size = 0
            while data := await process.stdout.read(100_000):
                size += len(data)
            assert size == 20_000_000
            assert (await process.wait()).exit_status == 0

    async def test_too_long_command(self, site: SshdSite) -> None:
        async with site.login() as connection:
            done = await connection.run("#" * 200_000)
        assert (done.exit_status, done.stderr) == (1, "/bin/bash: Argument list too long\n")

    async def test_missing_home(self, site: SshdSite) -> None:
        site.users["fireuser"].home.rmdir()
        async with site.login() as connection:
            assert (await connection.run("pwd")).stdout == "/\n"

    async def test_shell_without_a_terminal(self, site: SshdSite) -> None:
        async with site.login() as connection:
            done = await connection.run(None, input="echo $((6 * 7))\nexit 5\n")
        assert (done.stdout, done.exit_status) == ("42\n", 5)

    async def test_background_process_keeps_the_channel_open(self, site: SshdSite) -> None:
        async with site.login() as connection:
            process = await connection.create_process("mkfifo pipe; (read line < pipe; echo late) & echo early")
            assert await process.stdout.readline() == "early\n"
            await connection.run("echo > pipe")
            assert await process.stdout.readline() == "late\n"
            assert (await process.wait()).exit_status == 0

    async def test_other_subsystems_are_refused(self, site: SshdSite) -> None:
        async with site.login() as connection:
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.create_process(subsystem="netconf")


class _Bytes(asyncssh.SSHClientSession[bytes]):
    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes, datatype: int | None) -> None:  # noqa: ARG002 - asyncssh's signature
        self.data += data


class TestSignals:
    async def test_signal_is_reported(self, site: SshdSite) -> None:
        async with site.login() as connection:
            done = await connection.run("kill -SEGV $$")
        assert done.exit_signal is not None
        assert done.exit_signal[0] == "SEGV"

    @pytest.mark.parametrize("name", ["TERM", "KILL", "INT", "HUP"])
    async def test_signal_ends_the_process_group(self, site: SshdSite, name: str) -> None:
        async with site.login() as connection:
            process = await connection.create_process("sleep 1000 | sleep 1000 | { echo $$; exec sleep 1000; }")
            pid = await started(process)
            while len(group := _group(pid)) != 4 or len(_sleeping(group)) != 3:
                await asyncio.sleep(0.01)
            process.send_signal(name)
            done = await process.wait()
            assert done.exit_signal is not None
            assert done.exit_signal[0] == name
            for one in group:
                await gone(one)

    async def test_ignored_signals_of_the_server_are_reset(self, site: SshdSite) -> None:
        """A server under nohup(1) ignores SIGHUP; its commands do not, as with sshd."""
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            await self.test_signal_ends_the_process_group(site, "HUP")
        finally:
            signal.signal(signal.SIGHUP, before)

    async def test_unknown_signal_is_ignored(self, site: SshdSite) -> None:
        async with site.login() as connection:
            process = await connection.create_process("read line; echo $line")
            process.send_signal("NOSUCH")
            process.stdin.write("still here\n")
            assert await process.stdout.readline() == "still here\n"

    async def test_signal_before_the_start_of_the_process(self, site: SshdSite) -> None:
        async with site.login() as connection:
            process = await connection.create_process("sleep 1000")
            process.terminate()
            assert (await process.wait()).exit_signal is not None
        assert not site.server.running

    async def test_closing_a_channel_does_not_end_its_command(self, site: SshdSite) -> None:
        async with site.login() as connection:
            first = await connection.create_process("echo $$; exec sleep 1000")
            second = await connection.create_process("echo $$; exec sleep 1000")
            pids = [await started(first), await started(second)]
            first.close()
            await first.wait_closed()
            second.channel.abort()
            await connection.run("true")
            assert all(alive(pid) for pid in pids)
        while site.server.connections:
            await asyncio.sleep(0.01)
        assert all(alive(pid) for pid in pids)
        await site.server.stop()
        assert not any(alive(pid) for pid in pids)

    async def test_daemon_is_found_by_its_mark(self, site: SshdSite) -> None:
        async with site.login() as connection:
            done = await connection.run("mkfifo pid; setsid sh -c 'echo $$ > pid; exec sleep 1000' >&- 2>&- & cat pid")
        pid = int(str(done.stdout))
        await site.server.stop()
        assert alive(pid)
        assert processes.end_all(site.users.root) == 1
        assert not alive(pid)


def _group(pgid: int) -> set[int]:
    """The processes of a process group."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "stat").read_text().rpartition(")")[2].split()[2] == str(pgid):
                found.add(int(folder.name))
    return found


def _sleeping(pids: set[int]) -> set[int]:
    """Those that run `sleep`, and no longer the shell that they were forked from."""
    return {pid for pid in pids if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\0")}


class TestLogins:
    async def test_key_of_another_user_is_refused(self, site: SshdSite) -> None:
        for user, key in (
            ("fireuser", site.keys["user01"]),
            ("nobody9", site.keys["user01"]),
            ("root", site.keys["user01"]),
        ):
            with pytest.raises(asyncssh.PermissionDenied):
                async with site.login(user, key):
                    pass
        assert site.server.counts.logins == 0

    async def test_disabled_user(self, site: SshdSite) -> None:
        site.server.faults.disabled.add("fireuser")
        with pytest.raises(asyncssh.PermissionDenied):
            async with site.login():
                pass
        async with site.login("user01") as connection:
            assert (await connection.run("true")).exit_status == 0
        site.server.faults.disabled.clear()
        async with site.login():
            pass

    @pytest.mark.parametrize(
        ("principals", "after", "before", "good"),
        [
            (["fireuser"], -60, 60, True),
            (["other", "fireuser"], -60, 60, True),
            (["user01"], -60, 60, False),
            (["fireuser"], -120, -60, False),
            (["fireuser"], 60, 120, False),
        ],
    )
    async def test_certificates(
        self, site: SshdSite, principals: list[str], after: int, before: int, good: bool
    ) -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        now = int(time.time())
        certificate = site.authority.generate_user_certificate(
            key, "id", principals=principals, valid_after=now + after, valid_before=now + before
        )
        (pair, *_) = asyncssh.load_keypairs([(key, certificate)])
        if good:
            async with site.login("fireuser", pair) as connection:
                assert (await connection.run("whoami")).stdout == "fireuser\n"
        else:
            with pytest.raises(asyncssh.PermissionDenied):
                async with site.login("fireuser", pair):
                    pass

    async def test_certificate_of_another_authority_is_refused(self, site: SshdSite) -> None:
        key, other = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        certificate = other.generate_user_certificate(key, "id", principals=["fireuser"])
        (pair, *_) = asyncssh.load_keypairs([(key, certificate)])
        with pytest.raises(asyncssh.PermissionDenied):
            async with site.login("fireuser", pair):
                pass

    async def test_host_key(self, site: SshdSite) -> None:
        known = f"[127.0.0.1]:{site.server.port} ".encode() + site.server.host_key.export_public_key()
        options = {"username": "fireuser", "client_keys": [site.keys["fireuser"]], "config": None}
        async with asyncssh.connect("127.0.0.1", site.server.port, known_hosts=known, **options) as connection:
            assert connection.get_extra_info("server_version").startswith("SSH-2.0-OpenSSH")

    async def test_jump_host(self, site: SshdSite) -> None:
        async with (
            site.login() as jump,
            asyncssh.connect(
                "127.0.0.1",
                site.server.port,
                tunnel=jump,
                username="user01",
                client_keys=[site.keys["user01"]],
                known_hosts=None,
                config=None,
            ) as connection,
        ):
            assert (await connection.run("whoami")).stdout == "user01\n"


class TestLimits:
    async def test_channels_over_the_limit_are_refused(self, site: SshdSite) -> None:
        site.server.max_sessions = 3
        async with site.login() as connection:
            sftp = await connection.start_sftp_client()
            held = [await connection.create_process("cat") for _ in range(2)]
            with pytest.raises(asyncssh.ChannelOpenError) as refused:
                await connection.create_process("true")
            assert (refused.value.code, refused.value.reason) == (asyncssh.OPEN_CONNECT_FAILED, "open failed")
            held[0].stdin.write_eof()
            await held[0].wait()
            assert (await connection.run("echo again")).stdout == "again\n"
            sftp.exit()
            await sftp.wait_closed()
            counts = site.server.counts
            assert (counts.channels_most, counts.channels_refused, counts.sftp_sessions, counts.commands) == (
                3,
                1,
                1,
                3,
            )
            held[1].stdin.write_eof()
            await held[1].wait()
        async with site.login("user01") as first, site.login("user01") as second:
            # the limit is per connection
            await asyncio.gather(*(connection.run("true") for connection in (first, second) for _ in range(3)))
        assert counts.channels == 0

    async def test_connections_without_login_are_limited(self, site: SshdSite) -> None:
        site.server.max_startups = 2
        streams = [await asyncio.open_connection("127.0.0.1", site.server.port) for _ in range(2)]
        for reader, _ in streams:
            assert (await reader.readline()).startswith(b"SSH-2.0-OpenSSH")
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
        assert await reader.read() == b"Exceeded MaxStartups\r\n"
        for each in (writer, *(writer for _, writer in streams)):
            each.close()
            await each.wait_closed()
        while site.server.starting:
            await asyncio.sleep(0.01)
        async with site.login():
            assert site.server.counts.startups_refused == 1

    async def test_arbitrary_bytes_do_not_stop_the_server(self, site: SshdSite) -> None:
        async with site.login() as connection:
            for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 10_000, b"SSH-2.0-x\r\n" + os.urandom(4000)):
                reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
                writer.write(nonsense)
                writer.write_eof()
                await reader.read()
                writer.close()
            assert (await connection.run("echo well")).stdout == "well\n"
