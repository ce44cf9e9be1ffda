"""A long sequence of SFTP requests, with answers that can be compared between two servers."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from flamecrest.server.ssh.channels import sftp_packets as p
from flamecrest.server.ssh.channels.sftp_packets import Attrs, string
from tests.unit.ssh.channels.sftp_speaker import Speaker, inside

PATHS = (
    b"", b".", b"..", b"/", b"f", b"f/", b"f/x", b"d", b"d/", b"d/.", b"d/../f", b"l", b"l/", b"dl", b"dl/", b"dl/..",
    b"none", b"none/", b"none/x", b"loop", b"loop/x", b"dangling", b"dangling/", b"//etc//passwd", b"x" * 255,
    b"x" * 256, b"x/" * 3000, b"\xff\xfe", b"new\nline", b"fifo", b"/..", b"d/./../d//", b"up", b"up/d",
)  # fmt: skip
OFFSETS = (0, 1, 6, 7, 8, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


def play(server: Speaker, folder: Path) -> list[tuple[str, Any]]:
    """The server's answer to each request, without times and the directory's own name."""
    told: list[tuple[str, Any]] = []

    def ask(what: str, kind: int, *parts: bytes) -> bytes:
        packet = server.raw(kind, b"".join(parts))
        told.append((what, _plain(packet, os.fsencode(folder))))
        return packet

    _prepare(folder)
    for path in PATHS:
        for kind in (p.LSTAT, p.STAT, p.REALPATH, p.READLINK):
            ask(f"{kind} {path[:20]!r}", kind, string(path))
        packet = ask(f"open folder {path[:20]!r}", p.OPENDIR, string(path))
        if packet[0] == p.HANDLE:
            ask(f"close folder {path!r}", p.CLOSE, string(p.handle_reply(packet)))
    told.append(("folder", sorted(_entry(name) for name in server.folder(b"d"))))
    _open(ask, folder)
    _change(ask)
    _set(ask)
    for path in filter(inside, PATHS):
        ask(f"rmdir {path[:9]!r}", p.RMDIR, string(path))
        ask(f"remove {path[:9]!r}", p.REMOVE, string(path))
    return told


def _prepare(folder: Path) -> None:
    (folder / "f").write_bytes(b"content")
    (folder / "f").chmod(0o4751)
    (folder / "d").mkdir(mode=0o1777)
    for name in ("a", "b", "c"):
        (folder / "d" / name).write_bytes(name.encode() * 10)
        os.utime(folder / "d" / name, (1_000_000_000, 1_000_000_000))
    os.utime(folder / "d/b", (0, 0))
    for target, link in (("f", "l"), ("d", "dl"), ("loop", "loop"), ("nowhere", "dangling"), (str(folder), "up")):
        (folder / link).symlink_to(target)
    os.mkfifo(folder / "fifo")


def _open(ask: Any, folder: Path) -> None:
    for flags in range(64):
        # no pipe: to open one blocks
        for path in (b"f", b"d", b"none", b"dangling", b"none/x"):
            packet = ask(f"open {path!r} {flags}", p.OPEN, string(path), struct.pack(">I", flags), p.NO_ATTRS.packed())
            if packet[0] == p.HANDLE:
                _use(ask, p.handle_reply(packet), f"{path!r} {flags}")
        for name in ("none", "nowhere"):
            (folder / name).unlink(missing_ok=True)
        (folder / "f").write_bytes(b"content")


def _use(ask: Any, handle: bytes, what: str) -> None:
    handle = string(handle)
    for offset in OFFSETS:
        ask(f"read {what} at {offset}", p.READ, handle, struct.pack(">QI", offset, 3))
    for offset in (0, 7, 2**20, 2**63, 2**64 - 1):
        ask(f"write {what} at {offset}", p.WRITE, handle, struct.pack(">Q", offset), string(b"DATA"))
    ask(f"write nothing to {what}", p.WRITE, handle, struct.pack(">Q", 0), string(b""))
    ask(f"read nothing of {what}", p.READ, handle, struct.pack(">QI", 0, 0))
    ask(f"fstat {what}", p.FSTAT, handle)
    for attrs in (Attrs(size=5), Attrs(mode=0o640), Attrs(atime=5, mtime=6), Attrs(size=2**63)):
        ask(f"fsetstat {what} {attrs}", p.FSETSTAT, handle, attrs.packed())
    ask(f"fsync {what}", p.EXTENDED, string(b"fsync@openssh.com"), handle)
    ask(f"fstat again {what}", p.FSTAT, handle)
    ask(f"close {what}", p.CLOSE, handle)
    ask(f"close again {what}", p.CLOSE, handle)


def _change(ask: Any) -> None:
    pairs = (b"f", b"d", b"l", b"none", b"none/x", b"dangling", b"new", b"d/new", b"f/x", b"")
    for old in pairs:
        for new in pairs:
            if new == b"dangling" and old in {b"d", b"l", new}:
                continue  # OpenSSH tests by stat, which does not find a dangling link; ours does
            # moved back, so that the next pair finds the same files
            moved = ask(f"rename {old!r} {new!r}", p.RENAME, string(old), string(new))
            if moved[5:9] == bytes(4) and old != new:
                ask(f"rename back {old!r} {new!r}", p.RENAME, string(new), string(old))
            linked = ask(f"link {old!r} {new!r}", p.EXTENDED, string(b"hardlink@openssh.com"), string(old), string(new))
            if linked[5:9] == bytes(4):
                ask(f"remove {new!r}", p.REMOVE, string(new))
    for target in (b"", b"f", b"x" * 5000, b"else/where/", b"\xff"):
        ask(f"symlink {target[:9]!r}", p.SYMLINK, string(target), string(b"made"))
        ask("readlink", p.READLINK, string(b"made"))
        ask("remove", p.REMOVE, string(b"made"))
    for path in (b"m", b"m/", b"m/n", b"f/m", b"", b"none/m", b"x" * 256):
        ask(f"mkdir {path[:9]!r}", p.MKDIR, string(path), Attrs(mode=0o2775).packed())
    for old, new in ((b"m", b"f"), (b"f", b"m"), (b"m/n", b"m"), (b"f", b"l"), (b"none", b"f"), (b"l", b"f")):
        ask(f"posix {old!r} {new!r}", p.EXTENDED, string(b"posix-rename@openssh.com"), string(old), string(new))


def _set(ask: Any) -> None:
    for path in (b"f", b"l", b"d", b"none", b"f/x", b"dangling", b"loop", b""):
        for attrs in (Attrs(), Attrs(mode=0o7777), Attrs(mode=0), Attrs(size=3), Attrs(atime=7, mtime=2**32 - 1)):
            ask(f"setstat {path!r} {attrs}", p.SETSTAT, string(path), attrs.packed())
        ask(f"setstat owner {path!r}", p.SETSTAT, string(path), Attrs(uid=2**32 - 1, gid=os.getgid()).packed())


def _plain(packet: bytes, folder: bytes) -> Any:
    match packet[0]:
        case p.ATTRS:
            return _timeless(p.attrs_reply(packet))
        case p.NAME:
            return [(n.name.replace(folder, b"FOLDER"), n.attrs) for n in p.names_reply(packet)]
        case p.STATUS:
            return packet[5:]
        case _:
            return packet[0], packet[5:] if packet[0] == p.DATA else b""


def _timeless(attrs: Attrs) -> Attrs:
    """The attributes without times that no request has set."""
    return attrs if attrs.mtime in {0, 6, 1_000_000_000, 2**32 - 1} else attrs._replace(atime=0, mtime=0)


def _entry(name: p.Name) -> tuple[Any, ...]:
    if name.name in {b".", b".."}:
        return name.name, name.attrs.mode, 0, b""
    return name.name, name.attrs.mode, name.attrs.size, name.longname
