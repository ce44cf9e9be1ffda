"""Write a new file beside its target and put it in place when it is complete: the old file or the whole new one."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress

LEFT = 24 * 3600  # seconds after which a temporary file was left behind by a job that was killed
COPIED = 1024 * 1024  # bytes that are copied at once


class Refused(Exception):
    """The target cannot be written, or the file cannot be sent. The text is for the user."""


def reason(error: OSError) -> str:
    """The error in the words of the operating system."""
    return error.strerror or str(error)


class Replacement:
    """A temporary file of mode 600, in the folder of its target or, if that takes no new file, in `other_folder`.

    `create` creates it; `discard` removes it, also if a signal has interrupted `create`, or its folder was renamed.
    What is kept of an existing file, and when it is written into, is described in docs/users/files/replacing.md.
    """

    def __init__(self, target: bytes, other_folder: bytes, name: bytes) -> None:
        self.target = find_target(target)
        self.old = stat_or_none(self.target)
        self.path = os.path.join(os.path.dirname(self.target), name)
        self.other = os.path.join(other_folder, name)
        self.fd, self.mode = -1, 0
        self.folder = -1  # open: whoever renames it, perhaps on another node, does not change what it is

    def create(self) -> None:
        """Create the temporary file. Raises Refused, OSError."""
        remove_left(os.path.dirname(self.target))
        try:
            self.create_file()
        except OSError as error:
            if self.old is None or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise Refused(reason(error)) from None
            self.path = self.other
            self.create_file()

    def create_file(self) -> None:
        if self.folder != -1:
            os.close(self.folder)
        folder, name = os.path.split(self.path)
        self.folder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.fd, self.mode = create_private(name, self.folder)

    def take_over(self, path: bytes) -> None:
        """Use the content of another new file, which is moved. Raises OSError for a link."""
        os.rename(path, self.path)
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        os.close(self.fd)
        self.fd = fd

    def commit(self) -> None:
        """Put the file in place. Raises OSError; then the target is unchanged, unless it had to be written into."""
        os.fsync(self.fd)
        try:
            self.put_in_place()
        except FileNotFoundError as error:
            raise OSError(error.errno, "The target or its folder was renamed or removed meanwhile") from None
        self.close()

    def put_in_place(self) -> None:
        if self.old is None or self.keeps_rights(self.old):
            os.fchmod(self.fd, self.mode)
            os.rename(self.path, self.target)
            sync_folder(os.path.dirname(self.target))
        else:
            self.write_into()
            self.remove(self.path)

    def discard(self) -> None:
        """Remove the temporary file."""
        self.remove(self.path)
        self.close()

    def remove(self, path: bytes) -> None:
        """Remove a file of the folder of the temporary file, wherever that folder is now."""
        with suppress(OSError):
            os.unlink(os.path.basename(path), dir_fd=self.folder)

    def close(self) -> None:
        for opened in (self.fd, self.folder):
            with suppress(OSError):
                os.close(opened)
        self.fd = self.folder = -1

    def keeps_rights(self, old: os.stat_result) -> bool:
        """Whether a rename loses nothing; then the new file has got the old one's group and attributes."""
        self.mode = stat.S_IMODE(old.st_mode) & 0o1777
        beside = os.path.dirname(self.path) == os.path.dirname(self.target)
        if old.st_nlink != 1 or old.st_uid != os.geteuid() or not beside:
            return False
        try:
            if os.fstat(self.fd).st_gid != old.st_gid:
                os.fchown(self.fd, -1, old.st_gid)
            for name in os.listxattr(self.target):
                value = os.getxattr(self.target, name)
                if name not in os.listxattr(self.fd) or os.getxattr(self.fd, name) != value:
                    os.setxattr(self.fd, name, value)
            os.fchmod(self.fd, 0o600)
        except OSError as error:
            return error.errno == errno.ENOTSUP  # a file system without attributes
        return True

    def write_into(self) -> None:
        """Copy the content into the existing file, first what is longer: a full disk then leaves the old content."""
        target = os.open(self.target, os.O_WRONLY | os.O_CLOEXEC)
        try:
            before, size = os.fstat(target).st_size, os.fstat(self.fd).st_size
            try:
                copy_range(self.fd, target, before, size)
            except OSError:
                os.ftruncate(target, before)
                raise
            copy_range(self.fd, target, 0, min(before, size))
            os.ftruncate(target, size)
            os.fsync(target)
        finally:
            os.close(target)


def find_target(path: bytes) -> bytes:
    """The file that a write to `path` creates or replaces, behind links. Raises Refused."""
    found = os.path.realpath(path)
    old = stat_or_none(found)
    if old is None:
        if os.path.islink(path):
            raise Refused("The target is a symbolic link that leads nowhere")
        if not os.path.isdir(os.path.dirname(found)):
            raise Refused("No such file or directory")
        if path.endswith(b"/"):
            raise Refused("Is a directory")
        return found
    if stat.S_ISDIR(old.st_mode):
        raise Refused("Is a directory")
    if not stat.S_ISREG(old.st_mode):
        raise Refused("Not a regular file")
    if not os.access(found, os.W_OK):
        raise Refused("Permission denied")
    return found


def stat_or_none(path: bytes) -> os.stat_result | None:
    """The attributes of a file; None if there is none. Raises Refused."""
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise Refused(reason(error)) from None


def create_private(name: bytes, folder: int) -> tuple[int, int]:
    """A new file that only its owner may read, and the mode that the umask and the folder would have given it."""
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666, dir_fd=folder)
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    os.fchmod(fd, 0o600)
    return fd, mode


def copy_range(source: int, target: int, start: int, end: int) -> None:
    """Copy the bytes from `start` to `end` between two open files."""
    while start < end:
        piece = os.pread(source, min(COPIED, end - start), start)
        write_at(target, piece, start)
        start += len(piece)


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of the data."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def sync_folder(folder: bytes) -> None:
    """Have a rename written to disk, where the file system can."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    with suppress(OSError):
        os.fsync(fd)
    os.close(fd)


def remove_left(folder: bytes) -> None:
    """Remove the user's temporary files that killed jobs have left in a folder."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if is_temporary(entry.name):
            with suppress(OSError):
                found = os.lstat(entry.path)
                if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_mtime < time.time() - LEFT:
                    os.unlink(entry.path)


def is_temporary(name: bytes) -> bool:
    """Whether a name is that of a temporary file: .flamecrest-upload-, 16 hexadecimal digits, and .tmp of wormhole."""
    start = b".flamecrest-upload-"
    digits = name[len(start) : len(start) + 16]
    rest = name[len(start) + 16 :]
    return name.startswith(start) and len(digits) == 16 and digits.isalnum() and rest in (b"", b".tmp")
