"""The sandbox's SFTP: files, owners and permissions as with OpenSSH's server."""

from __future__ import annotations

import asyncio
import os
import struct
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import FX_BAD_MESSAGE, FX_FAILURE, FX_NO_SUCH_FILE, FX_PERMISSION_DENIED
from asyncssh.packet import String, UInt32

from .conftest import SshdSite

pytestmark = pytest.mark.anyio


@pytest.fixture
def home(site: SshdSite) -> Path:
    return site.users["fireuser"].home


async def refused(work: Any, code: int) -> str:
    """Await an operation that must fail with this code; return the server's message."""
    with pytest.raises(asyncssh.SFTPError) as error:
        await work
    assert error.value.code == code, error.value
    return error.value.reason


class TestFiles:
    async def test_write_read_append_truncate(self, site: SshdSite, home: Path) -> None:
        data = os.urandom(2_000_000)
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            assert sftp.version == 3
            async with sftp.open("big", "wb") as file:
                await file.write(data)
                await file.fsync()
            assert (home / "big").read_bytes() == data
            async with sftp.open("big", "rb") as file:
                whole: Any = await file.read()
                part: Any = await file.read(10, 1_000_000)
            assert (whole == data, part) == (True, data[1_000_000:1_000_010])
            async with sftp.open("log", "ab") as one, sftp.open("log", "ab") as two:
                await one.write(b"1")
                await two.write(b"2")
                await one.write(b"3", 0)
            assert (home / "log").read_bytes() == b"123"
            await sftp.truncate("big", 5)
            assert (home / "big").read_bytes() == data[:5]
            async with sftp.open("big", "r+b") as file:
                await file.write(b"xyz", 1)
            assert (home / "big").read_bytes() == data[:1] + b"xyz" + data[4:5]
            await refused(sftp.open("big", "xb"), FX_FAILURE)
            assert (home / "big").stat().st_size == 5

    async def test_new_file_has_the_requested_mode(self, site: SshdSite, home: Path) -> None:
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            async with sftp.open("secret", "wb", asyncssh.SFTPAttrs(permissions=0o600)):
                pass
            await sftp.mkdir("folder", asyncssh.SFTPAttrs(permissions=0o750))
            async with sftp.open("plain", "wb"):
                pass
        modes = {name: (home / name).stat().st_mode & 0o777 for name in ("secret", "folder", "plain")}
        assert modes == {"secret": 0o600, "folder": 0o750, "plain": 0o644}

    async def test_directory_can_be_opened_but_not_read(self, site: SshdSite) -> None:
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            async with sftp.open(".", "rb") as file:
                await refused(file.read(10), FX_FAILURE)
            await refused(sftp.open(".", "wb"), FX_FAILURE)

    async def test_owners_are_made_up(self, site: SshdSite, home: Path) -> None:
        (home / "mine").write_text("x" * 7)
        root = site.users.root
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            attrs = await sftp.stat("mine")
            assert (attrs.uid, attrs.gid, attrs.size) == (1001, 1001, 7)
            async with sftp.open("mine") as file:
                assert (await file.stat()).uid == 1001
            listed = {str(entry.filename): entry async for entry in sftp.scandir(str(home))}
            assert set(listed) == {".", "..", "mine"}
            assert str(listed["mine"].longname).startswith("-rw-r--r--    1 fireuser fireuser        7 ")
            assert str(listed[".."].longname).split()[2:4] == ["root", "root"]
            homes = {str(entry.filename): entry.attrs.uid async for entry in sftp.scandir(str(root / "home"))}
            assert homes == {".": 0, "..": 0, "fireuser": 1001, "firesrv": 1002, "user01": 1003}
            assert (await sftp.stat(str(root / "scratch" / "user01"))).uid == 1003

    async def test_many_entries(self, site: SshdSite, home: Path) -> None:
        names = {f"file {number}" for number in range(300)}
        for name in names:
            (home / name).touch()
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            assert set(await sftp.listdir(".")) - {".", ".."} == names

    async def test_links(self, site: SshdSite, home: Path) -> None:
        (home / "file").write_text("text")
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            await sftp.symlink("file", "link")
            assert (home / "link").readlink() == Path("file")
            await sftp.symlink("/nowhere/at all", "dangling")
            assert await sftp.readlink("dangling") == "/nowhere/at all"
            assert (await sftp.lstat("link")).type == asyncssh.FILEXFER_TYPE_SYMLINK
            assert (await sftp.stat("link")).size == 4
            await refused(sftp.stat("dangling"), FX_NO_SUCH_FILE)
            await refused(sftp.readlink("file"), FX_BAD_MESSAGE)
            await sftp.link("file", "hard")
            assert (home / "hard").stat().st_nlink == 2
            assert await sftp.realpath("link") == str(home / "file")
            assert await sftp.realpath(".") == str(home)
            assert await sftp.realpath("new") == str(home / "new")
            await refused(sftp.realpath("no/new"), FX_NO_SUCH_FILE)
            await sftp.symlink("loop", "loop")
            await refused(sftp.stat("loop"), FX_NO_SUCH_FILE)

    async def test_renaming(self, site: SshdSite, home: Path) -> None:
        for name in ("a", "b"):
            (home / name).write_text(name)
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            await refused(sftp.rename("a", "b"), FX_FAILURE)
            await sftp.posix_rename("a", "b")
            await sftp.rename("b", "c")
            await refused(sftp.rename("a", "d"), FX_NO_SUCH_FILE)
        assert [entry.name for entry in home.iterdir()] == ["c"]
        assert (home / "c").read_text() == "a"

    async def test_removing(self, site: SshdSite, home: Path) -> None:
        (home / "folder" / "inner").mkdir(parents=True)
        (home / "file").touch()
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            await refused(sftp.rmdir("folder"), FX_FAILURE)
            await refused(sftp.remove("folder"), FX_FAILURE)
            await refused(sftp.rmdir("file"), FX_NO_SUCH_FILE)
            await refused(sftp.mkdir("folder"), FX_FAILURE)
            await refused(sftp.mkdir("x/y"), FX_NO_SUCH_FILE)
            await refused(sftp.stat("file/x"), FX_NO_SUCH_FILE)
            await refused(sftp.stat("file/"), FX_NO_SUCH_FILE)
            await sftp.rmdir("folder/inner/")
            await sftp.rmdir("folder")
            await sftp.remove("file")
        assert not list(home.iterdir())

    async def test_modes_and_times(self, site: SshdSite, home: Path) -> None:
        (home / "file").touch()
        (home / "link").symlink_to("file")
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            await sftp.chmod("link", 0o4711)
            assert (home / "file").stat().st_mode & 0o7777 == 0o4711
            await sftp.utime("file", (1000, 2000))
            assert ((home / "file").stat().st_atime, (home / "file").stat().st_mtime) == (1000, 2000)
            await refused(sftp.chmod("link", 0o600, follow_symlinks=False), FX_FAILURE)
            async with sftp.open("file", "r+b") as file:
                await file.chmod(0o600)
            assert (home / "file").stat().st_mode & 0o7777 == 0o600

    async def test_owner_cannot_be_changed(self, site: SshdSite, home: Path) -> None:
        (home / "file").touch()
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            await sftp.chown("file", 1001, 1001)
            for uid, gid in ((1003, 1001), (1001, 1003), (0, 0)):
                assert await refused(sftp.chown("file", uid, gid), FX_PERMISSION_DENIED) == "Permission denied"

    async def test_names_are_arbitrary_bytes(self, site: SshdSite, home: Path) -> None:
        names = [b"new\nline", b" space ", b"\xff\xfe", b"-rf", b"*", b"'\"$(x)`", b"back\\slash", b"x" * 255]
        async with site.login() as connection, connection.start_sftp_client(path_encoding=None) as sftp:
            for name in names:
                async with sftp.open(name, "wb") as file:
                    await file.write(name)
            assert {entry for entry in await sftp.listdir(b".") if entry not in (b".", b"..")} == set(names)
            await refused(sftp.open(b"x" * 256, "wb"), FX_BAD_MESSAGE)
            await refused(sftp.stat(b"nul\0nul"), FX_BAD_MESSAGE)
            await refused(sftp.stat(b"/".join([b"x" * 200] * 30)), FX_NO_SUCH_FILE)
        assert {os.fsencode(entry.name) for entry in home.iterdir()} == set(names)

    async def test_named_pipe_does_not_block(self, site: SshdSite, home: Path) -> None:
        os.mkfifo(home / "pipe")
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            await refused(sftp.open("pipe", "wb"), FX_FAILURE)
            assert (await sftp.stat(".")).uid == 1001


class TestPermissions:
    async def test_private_home_is_inaccessible(self, site: SshdSite) -> None:
        there = site.users["user01"].home
        (there / "file").write_text("theirs")
        (there / "file").chmod(0o666)
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            for work in (
                sftp.listdir(there),
                sftp.stat(there / "file"),
                sftp.lstat(there / "file"),
                sftp.open(there / "file"),
                sftp.open(there / "file", "wb"),
                sftp.open(there / "new", "wb"),
                sftp.mkdir(there / "new"),
                sftp.remove(there / "file"),
                sftp.rename(there / "file", "stolen"),
                sftp.link(there / "file", "linked"),
                sftp.symlink("x", there / "link"),
                sftp.readlink(there / "link"),
                sftp.realpath(there / "link"),
                sftp.chmod(there, 0o777),
                sftp.rmdir(there),
                sftp.statvfs(there / "file"),
                sftp.stat(there / ".." / "user01" / "file"),
                sftp.stat(there / "nothing"),
            ):
                await refused(work, FX_PERMISSION_DENIED)
            assert (await sftp.stat(there)).uid == 1003
        assert (there / "file").read_text() == "theirs"

    async def test_open_home_follows_its_modes(self, site: SshdSite) -> None:
        there = site.users["user01"].home
        there.chmod(0o755)
        for name, mode in (("private", 0o600), ("readable", 0o644), ("shared", 0o777)):
            (there / name).mkdir() if name == "shared" else (there / name).write_text("text")
            (there / name).chmod(mode)
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            assert set(await sftp.listdir(there)) == {".", "..", "private", "readable", "shared"}
            await refused(sftp.open(there / "private"), FX_PERMISSION_DENIED)
            async with sftp.open(there / "readable") as file:
                assert await file.read() == "text"
            await refused(sftp.open(there / "readable", "r+b"), FX_PERMISSION_DENIED)
            await refused(sftp.open(there / "new", "wb"), FX_PERMISSION_DENIED)
            await refused(sftp.truncate(there / "readable", 0), FX_PERMISSION_DENIED)
            await refused(sftp.utime(there / "readable", (1, 1)), FX_PERMISSION_DENIED)
            async with sftp.open(there / "shared" / "gift", "wb"):
                pass

    async def test_links_do_not_bypass_permissions(self, site: SshdSite, home: Path) -> None:
        there = site.users["user01"].home
        (there / "file").write_text("theirs")
        (home / "way").symlink_to(there)
        (home / "file").symlink_to(there / "file")
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            for path in ("way/file", "way/", "file", "way/../user01/file"):
                await refused(sftp.open(path), FX_PERMISSION_DENIED)
            assert await sftp.readlink("way") == str(there)

    async def test_owner_is_bound_by_the_owner_bits(self, site: SshdSite, home: Path) -> None:
        (home / "file").write_text("mine")
        (home / "file").chmod(0)
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            await refused(sftp.open("file"), FX_PERMISSION_DENIED)
            await sftp.chmod("file", 0o400)
            async with sftp.open("file") as file:
                assert await file.read() == "mine"

    async def test_the_sticky_bit(self, site: SshdSite) -> None:
        there = site.users.root / "scratch" / "user01"
        there.chmod(0o1777)
        (there / "file").touch()
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            await refused(sftp.remove(there / "file"), FX_PERMISSION_DENIED)
            there.chmod(0o777)
            await sftp.remove(there / "file")

    async def test_root_of_the_sandbox_cannot_be_changed(self, site: SshdSite) -> None:
        root = site.users.root
        (root / "keys").mkdir(mode=0o700)
        (root / "keys" / "secret").touch()
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            await refused(sftp.open(root / "new", "wb"), FX_PERMISSION_DENIED)
            await refused(sftp.stat(root / "keys" / "secret"), FX_PERMISSION_DENIED)
            await refused(sftp.rename(root / "home" / "fireuser", root / "home" / "x"), FX_PERMISSION_DENIED)

    async def test_other_directories_follow_their_modes(self, site: SshdSite) -> None:
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            async with sftp.open("/etc/passwd") as file:
                assert "root" in str(await file.read())
            await refused(sftp.open("/etc/shadow"), FX_PERMISSION_DENIED)
            await refused(sftp.open("/etc/new", "wb"), FX_PERMISSION_DENIED)

    async def test_stat_of_perl_agrees(self, site: SshdSite, home: Path) -> None:
        there = site.users["user01"].home
        (home / "file").touch()
        (there / "file").touch()
        program = 'for (@ARGV) { my @s = stat($_); print @s ? "$s[4]:$s[5]\\n" : ($! + 0) . "\\n" }'
        paths = f"{home}/file {there} {there}/file {there}/none {home}/none"
        async with site.login() as connection:
            done = await connection.run(f"perl -e '{program}' {paths}")
        assert done.stdout == "1001:1001\n1003:1003\n13\n13\n2\n"


class TestExtensions:
    async def test_names_by_number(self, site: SshdSite) -> None:
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            uids = b"".join(UInt32(uid) for uid in (1001, 0, 1003, 4_000_000_000))
            answer = await _extended(sftp, b"users-groups-by-id@openssh.com", String(uids), String(UInt32(1002)))
        users, groups = _strings(answer)
        assert _strings(users) == [b"fireuser", b"root", b"user01", b""]
        assert _strings(groups) == [b"firesrv"]

    async def test_extensions(self, site: SshdSite) -> None:
        async with site.login() as connection:
            writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
            writer.write(UInt32(5) + b"\x01" + UInt32(3))
            (length,) = struct.unpack(">I", await reader.readexactly(4))
            hello = await reader.readexactly(length)
        offered = dict(zip(*[iter(_strings(hello[5:]))] * 2, strict=True))
        assert offered == {
            b"posix-rename@openssh.com": b"1",
            b"statvfs@openssh.com": b"2",
            b"fstatvfs@openssh.com": b"2",
            b"hardlink@openssh.com": b"1",
            b"fsync@openssh.com": b"1",
            b"lsetstat@openssh.com": b"1",
            b"limits@openssh.com": b"1",
            b"users-groups-by-id@openssh.com": b"1",
            b"copy-data": b"1",
        }

    async def test_limits(self, site: SshdSite, home: Path) -> None:
        (home / "file").write_bytes(bytes(400_000))
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            assert (sftp.limits.max_read_len, sftp.limits.max_write_len) == (261120, 261120)
            async with sftp.open("file", "rb") as file:
                data, _ = await sftp._handler.read(file.handle, 0, 400_000)
                assert len(data) == 261120

    async def test_too_large_packet_ends_the_session(self, site: SshdSite) -> None:
        async with site.login() as connection:
            writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
            writer.write(UInt32(5) + b"\x01" + UInt32(3))
            (length,) = struct.unpack(">I", await reader.readexactly(4))
            await reader.readexactly(length)
            writer.write(UInt32(262145) + b"\x06" + bytes(262144))
            assert await reader.read() == b""

    async def test_copy_data(self, site: SshdSite, home: Path) -> None:
        data = os.urandom(3_000_000)
        (home / "from").write_bytes(data)
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            assert sftp.supports_remote_copy
            await sftp.copy("from", "to")
            async with sftp.open("from", "rb") as source, sftp.open("part", "wb") as target:
                await sftp.remote_copy(source, target, 10, 20, 5)
        assert (home / "to").read_bytes() == data
        assert (home / "part").read_bytes() == bytes(5) + data[10:30]

    async def test_statvfs(self, site: SshdSite, home: Path) -> None:
        async with site.login() as connection, connection.start_sftp_client() as sftp:
            assert (await sftp.statvfs(".")).bsize == os.statvfs(home).f_bsize


async def _extended(sftp: asyncssh.SFTPClient, name: bytes, *arguments: bytes) -> bytes:
    """Send an extended request and return the body of the reply."""
    handler = sftp._handler
    answer: asyncio.Future[tuple[int, Any]] = asyncio.get_running_loop().create_future()
    handler._requests[4_000_000] = answer
    handler.send_packet(200, 4_000_000, UInt32(4_000_000), String(name), *arguments)
    kind, packet = await answer
    assert kind == 201
    return bytes(packet.get_remaining_payload())


def _strings(data: bytes) -> list[bytes]:
    found = []
    while data:
        (size,) = struct.unpack(">I", data[:4])
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found
