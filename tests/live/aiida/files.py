"""Every method of the plugin's transport, on small files; pyfirecrest transfers files from 1 MiB by other methods."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firecrest.FirecrestException import FirecrestException, TransferJobFailedException

from .steps import Step, expect, refused

ODD = "it's a $(touch x) & ü; 100% #1.txt"
WILD = 'two\nlines of "quotes", \\ and \t; rm -rf `id`'  # not for uploads: pyfirecrest itself changes such names
LARGEST = 1024 * 1024 - 1  # the last size that pyfirecrest sends in one request
TREE = {"a": b"1", ".hidden": b"2", ODD: b"3", "deep/er/empty": b"", "deep/b c": b"\x00\xff\n"}


@dataclass(frozen=True)
class Desk:
    """The environment of the steps: an open transport, a remote and a local folder."""

    transport: Any
    remote: str
    local: Path

    def room(self, name: str) -> tuple[str, Path]:
        """Create folders of that name for one step, remote and local."""
        remote, local = f"{self.remote}/{name}", self.local / name
        self.transport.mkdir(remote)
        local.mkdir()
        return remote, local

    def put(self, path: str, content: bytes = b"content") -> None:
        """Write a file on the cluster."""
        source = self.local / "to put"
        source.write_bytes(content)
        self.transport.putfile(source, path)

    def read(self, path: str) -> bytes:
        """Read a file of the cluster."""
        target = self.local / "got"
        target.unlink(missing_ok=True)
        self.transport.getfile(path, target)
        return target.read_bytes()


def plant(folder: Path, tree: dict[str, bytes]) -> Path:
    """Write a tree of local files."""
    for name, content in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def grown(folder: Path) -> dict[str, bytes]:
    """The files of a local tree, following links."""
    found = [Path(top, name) for top, _, names in os.walk(folder, followlinks=True) for name in names]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def transport_and_user(desk: Desk) -> str:
    with desk.transport as transport:
        expect(transport.is_open, True)
        expect(transport.normalize("/home//x/../y"), "/home/y")
        return f"{transport} {transport._api_version}, {transport.whoami()}"


def one_file_there_and_back(desk: Desk) -> None:
    remote, _ = desk.room("one file")
    names = ["plain", ODD, ".hidden", "trailing ", "-rf"]
    for name in names:
        desk.put(f"{remote}/{name}", name.encode())
        expect(desk.read(f"{remote}/{name}"), name.encode())
    desk.put(f"{remote}/plain", b"")
    expect(desk.read(f"{remote}/plain"), b"")
    largest = os.urandom(LARGEST)
    desk.put(f"{remote}/plain", largest)
    expect(desk.read(f"{remote}/plain") == largest, True)
    for size in (5_000_000, 200_000_000):
        large = os.urandom(1_000_000) * (size // 1_000_000)
        desk.put(f"{remote}/plain", large)
        expect(desk.read(f"{remote}/plain") == large, True)
    expect(sorted(desk.transport.listdir(remote)), sorted(names))


def checksums_are_compared(desk: Desk) -> None:
    remote, _ = desk.room("checksums")
    desk.transport.checksum_check = True
    try:
        desk.put(f"{remote}/{ODD}", b"checked")
        expect(desk.read(f"{remote}/{ODD}"), b"checked")
    finally:
        desk.transport.checksum_check = False


def put_and_get_choose_by_kind(desk: Desk) -> None:
    remote, local = desk.room("by kind")
    source = plant(local / "folder", {"x": b"1", "sub/y": b"2"})
    desk.transport.put(source, f"{remote}/new")
    desk.transport.put(source / "x", f"{remote}/new/{ODD}")
    desk.transport.get(f"{remote}/new", local / "back")
    expect(grown(local / "back"), {"x": b"1", "sub/y": b"2", ODD: b"1"})
    desk.transport.get(f"{remote}/new/{ODD}", local / "single")
    expect((local / "single").read_bytes(), b"1")
    (local / "globbed").mkdir()
    desk.transport.get(f"{remote}/new/[xi]*", f"{local}/globbed/")
    expect(grown(local / "globbed"), {"x": b"1", ODD: b"1"})
    desk.transport.put(local / "nothing", f"{remote}/nothing", ignore_nonexisting=True)
    desk.transport.get(f"{remote}/nothing", local / "nothing", ignore_nonexisting=True)
    expect(desk.transport.path_exists(f"{remote}/nothing"), False)


def trees_file_by_file(desk: Desk) -> None:
    remote, local = desk.room("trees_by_file")
    desk.transport.payoff_override = False
    try:
        _tree(desk, remote, local)
        desk.transport.symlink(f"{remote}/tree/deep", f"{remote}/tree/link to folder")
        desk.transport.symlink(f"{remote}/tree/a", f"{remote}/tree/link to file")
        desk.transport.gettree(f"{remote}/tree", local / "followed")
    finally:
        desk.transport._payoff_override = None
    behind = {f"link to folder/{name[5:]}": content for name, content in TREE.items() if name.startswith("deep/")}
    expect(grown(local / "followed"), TREE | behind | {"link to file": b"1"})


def trees_as_archives(desk: Desk) -> None:
    remote, local = desk.room("trees_by_archive")  # without a space: the plugin's local tar does not support spaces
    desk.transport.payoff_override = True
    try:
        _tree(desk, remote, local)
    finally:
        desk.transport._payoff_override = None
    expect(desk.transport.listdir(str(desk.transport._temp_directory)), [])


def _tree(desk: Desk, remote: str, local: Path) -> None:
    source = plant(local / "source", TREE)
    desk.transport.puttree(source, f"{remote}/tree")
    found = desk.transport.listdir(f"{remote}/tree", recursive=True)
    expect(sorted(found), sorted([*TREE, "deep", "deep/er"]))
    desk.transport.gettree(f"{remote}/tree", local / "back")
    expect(grown(local / "back"), TREE)
    desk.transport.puttree(source, f"{remote}/tree")  # into what exists
    expect(desk.read(f"{remote}/tree/source/deep/b c"), TREE["deep/b c"])
    desk.transport.rmtree(f"{remote}/tree/source")
    (local / "there").mkdir()
    desk.transport.gettree(f"{remote}/tree", local / "there")  # into what exists
    expect(grown(local / "there/tree"), TREE)


def folders_are_made(desk: Desk) -> None:
    remote, _ = desk.room("made")
    transport = desk.transport
    transport.mkdir(f"{remote}/{ODD}")
    transport.mkdir(f"{remote}/{WILD}")
    transport.makedirs(f"{remote}/p q/r/s")
    transport.makedirs(f"{remote}/p q/r/s", ignore_existing=True)
    transport.mkdir(f"{remote}/p q", ignore_existing=True)
    with refused(OSError, "already exists"):
        transport.mkdir(f"{remote}/{ODD}")
    with refused(OSError, "already exists"):
        transport.makedirs(f"{remote}/p q/r")
    with refused(FirecrestException, "No such file or directory"):
        transport.mkdir(f"{remote}/no/such")
    expect(sorted(transport.listdir(remote, recursive=True)), sorted([ODD, WILD, "p q", "p q/r", "p q/r/s"]))


def listings(desk: Desk) -> None:
    remote, _ = desk.room("listings")
    transport = desk.transport
    for name in ("one.txt", "two.txt", ".hidden", ODD):
        desk.put(f"{remote}/{name}")
    transport.mkdir(f"{remote}/sub")
    shown = ["one.txt", "two.txt", ODD, "sub"]
    expect(sorted(transport.listdir(remote)), sorted([*shown, ".hidden"]))
    expect(sorted(transport.listdir(remote, hidden=False)), sorted(shown))
    expect(sorted(transport.listdir(remote, pattern="???.txt")), ["one.txt", "two.txt"])
    expect(transport.listdir(f"{remote}/sub"), [])
    found = {entry["name"]: entry for entry in transport.listdir_withattributes(remote)}
    expect([name for name, entry in found.items() if entry["isdir"]], ["sub"])
    expect(found[ODD]["attributes"].st_size, len(b"content"))
    expect(sorted(transport.glob(f"{remote}/t*.txt")), [f"{remote}/two.txt"])
    expect(sorted(transport.glob(f"{remote[:-1]}?/*.txt")), sorted(f"{remote}/{name}" for name in shown[:3]))
    expect(transport.glob(f"{remote}/sub/*"), [])


def path_kinds(desk: Desk) -> None:
    remote, _ = desk.room("attributes")
    transport = desk.transport
    file, link = f"{remote}/{ODD}", f"{remote}/{WILD}"
    desk.put(file)
    transport.symlink(file, link)
    questions = (transport.isfile, transport.isdir, transport.path_exists, transport.is_symlink)
    expect([ask(file) for ask in questions], [True, False, True, False])
    expect([ask(remote) for ask in questions], [False, True, True, False])
    expect([ask(link) for ask in questions], [True, False, True, True])
    expect([ask(f"{remote}/none") for ask in questions], [False] * 4)
    seen = transport.get_attribute(file)
    expect((seen.st_size, stat.S_ISREG(seen.st_mode), seen.st_uid > 0, seen.st_mtime > 1e9), (7, True, True, True))
    expect(transport.get_attribute(link).st_size, 7)
    transport.remove(file)
    expect([transport.path_exists(link), transport.is_symlink(link)], [False, True])


def modes_change(desk: Desk) -> None:
    remote, _ = desk.room("modes")
    transport = desk.transport
    desk.put(f"{remote}/{ODD}")
    for mode in (0o400, 0o755, 0o640):
        transport.chmod(f"{remote}/{ODD}", mode)
        expect(transport.get_mode(f"{remote}/{ODD}"), mode)
    with refused(FirecrestException, "No such file or directory"):
        transport.chmod(f"{remote}/none", 0o600)


def copies_by_jobs(desk: Desk) -> str:
    remote, _ = desk.room("copies")
    desk.put(f"{remote}/{ODD}", b"copied")
    desk.put(f"{remote}/two.dat", b"2")
    for folder in ("tree", "tree/sub", f"tree/{WILD}", "into", "matches"):
        desk.transport.mkdir(f"{remote}/{folder}")
    desk.put(f"{remote}/tree/sub/x y", b"deep")
    desk.transport.symlink(f"{remote}/two.dat", f"{remote}/a link")
    wanted = _copy_all(desk.transport, remote)
    for path, content in wanted.items():
        expect((path, desk.read(f"{remote}/{path}")), (path, content))
    expect(sorted(desk.transport.listdir(f"{remote}/into/tree")), sorted(["sub", WILD]))
    expect(desk.transport.is_symlink(f"{remote}/link of copy"), True)
    expect(desk.transport.is_symlink(f"{remote}/file of link"), False)
    for call in (desk.transport.copy, desk.transport.copyfile, desk.transport.copytree):
        with refused(FileNotFoundError, "does not exist"):
            call(f"{remote}/none", f"{remote}/into")
    return "6 copies at once"


def _copy_all(transport: Any, remote: str) -> dict[str, bytes]:
    """Copy everything concurrently; return the expected files."""

    async def copy() -> None:
        await asyncio.gather(
            transport.copyfile_async(f"{remote}/{ODD}", f"{remote}/copy of {ODD}"),
            transport.copytree_async(f"{remote}/tree", f"{remote}/into"),
            transport.copy_async(f"{remote}/tree/sub", f"{remote}/into"),
            transport.copy_async(f"{remote}/*.dat", f"{remote}/matches/"),
            transport.copyfile_async(f"{remote}/a link", f"{remote}/link of copy"),
            transport.copyfile_async(f"{remote}/a link", f"{remote}/file of link", dereference=True),
        )

    transport.run_command_blocking(copy)
    copied = {f"copy of {ODD}": b"copied", "into/tree/sub/x y": b"deep", "into/sub/x y": b"deep"}
    return copied | {"matches/two.dat": b"2", "file of link": b"2", ODD: b"copied"}


def renames_by_jobs(desk: Desk) -> None:
    remote, _ = desk.room("renames")
    transport = desk.transport
    desk.put(f"{remote}/{ODD}", b"moved")
    transport.makedirs(f"{remote}/{WILD}/sub")

    async def rename() -> None:
        await asyncio.gather(
            transport.rename_async(f"{remote}/{ODD}", f"{remote}/new {ODD}"),
            transport.rename_async(f"{remote}/{WILD}", f"{remote}/new {WILD}"),
        )

    transport.run_command_blocking(rename)
    expect(sorted(transport.listdir(remote, recursive=True)), sorted([f"new {ODD}", f"new {WILD}", f"new {WILD}/sub"]))
    expect(desk.read(f"{remote}/new {ODD}"), b"moved")
    with refused(TransferJobFailedException):
        transport.rename(f"{remote}/none", f"{remote}/other")


def removals(desk: Desk) -> None:
    remote, _ = desk.room("removals")
    transport = desk.transport
    desk.put(f"{remote}/{ODD}")
    transport.makedirs(f"{remote}/full/{WILD}/sub")
    transport.mkdir(f"{remote}/empty one")
    transport.symlink(f"{remote}/full", f"{remote}/link")
    with refused(OSError, "not a file"):
        transport.remove(f"{remote}/full")
    with refused(OSError, "not a directory"):
        transport.rmtree(f"{remote}/{ODD}")
    with refused(OSError, "not empty"):
        transport.rmdir(f"{remote}/full")
    transport.remove(f"{remote}/{ODD}")
    transport.remove(f"{remote}/{ODD}")  # what does not exist is no error
    transport.rmdir(f"{remote}/empty one")
    transport.rmtree(f"{remote}/link")
    expect(sorted(transport.listdir(remote, recursive=True)), ["full", f"full/{WILD}", f"full/{WILD}/sub"])
    transport.rmtree(f"{remote}/full")
    transport.rmtree(f"{remote}/full")
    expect(transport.listdir(remote), [])


def from_computer_to_computer(desk: Desk) -> None:
    remote, _ = desk.room("between")
    desk.transport.mkdir(f"{remote}/from")
    desk.transport.mkdir(f"{remote}/to")
    desk.put(f"{remote}/from/{ODD}", b"carried")
    desk.transport.run_command_blocking(
        desk.transport.copy_from_remote_to_remote_async, desk.transport, f"{remote}/from", f"{remote}/to"
    )
    expect(desk.read(f"{remote}/to/from/{ODD}"), b"carried")


def twenty_files_at_once(desk: Desk) -> None:
    remote, local = desk.room("at once")
    files = plant(local, {f"file {number}": os.urandom(1000) for number in range(20)})
    transport = desk.transport

    async def there_and_back() -> None:
        await asyncio.gather(*(transport.putfile_async(file, f"{remote}/{file.name}") for file in files.iterdir()))
        names = await transport.listdir_async(remote)
        await asyncio.gather(*(transport.getfile_async(f"{remote}/{name}", local / f"back {name}") for name in names))

    transport.run_command_blocking(there_and_back)
    for number in range(20):
        expect((local / f"back file {number}").read_bytes(), (local / f"file {number}").read_bytes())


def missing_paths(desk: Desk) -> None:
    remote, local = desk.room("missing")
    transport = desk.transport
    with refused(FileNotFoundError, "No such file or directory"):
        transport.get_attribute(f"{remote}/none")
    with refused(FirecrestException, "No such file or directory"):
        transport.listdir(f"{remote}/none")
    for call in (transport.get, transport.getfile):
        with refused(FileNotFoundError):
            call(f"{remote}/none", local / "none")
    for call in (transport.put, transport.putfile):
        with refused(FileNotFoundError):
            call(local / "none", f"{remote}/none")
    with refused(FirecrestException, "No such file or directory"):
        transport.putfile(plant(local, {"x": b"1"}) / "x", f"{remote}/no/such/folder")
    expect(transport.listdir(remote), [])


def unsupported_by_the_plugin(desk: Desk) -> None:
    """Version 1.0 refuses these without a request; fails when a version supports them."""
    transport = desk.transport
    calls = [(transport.chown, 1, 1), (transport.gotocomputer_command,), (transport.exec_command_wait,)]
    calls += [(transport.compress, "tar", "/x"), (transport.extract, "/x")]
    for call, *arguments in calls:
        with refused(NotImplementedError):
            call(desk.remote, *arguments)


STEPS: list[Step] = [
    transport_and_user,
    one_file_there_and_back,
    checksums_are_compared,
    put_and_get_choose_by_kind,
    trees_file_by_file,
    trees_as_archives,
    folders_are_made,
    listings,
    path_kinds,
    modes_change,
    copies_by_jobs,
    renames_by_jobs,
    removals,
    from_computer_to_computer,
    twenty_files_at_once,
    missing_paths,
    unsupported_by_the_plugin,
]
