"""Rename over SFTP, atomically, with and without replacing an existing file."""

from __future__ import annotations

import asyncio
import os
import posixpath
import stat as stat_bits
from contextlib import suppress
from typing import TYPE_CHECKING

from flamecrest.server.errors import Conflict, Invalid
from flamecrest.server.files.paths import within
from flamecrest.server.files.remote.access import check_writable
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.ssh.channels.sftp_packets import BAD_MESSAGE, FAILURE, Attrs, SftpError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flamecrest.server.ssh.channels.sftp import Sftp


async def rename(
    sftp: Sftp, source: str, target: str, *, overwrite: bool, same_file: Callable[[], Awaitable[bool | None]]
) -> str | None:
    """Rename and return None, or the server's message if SFTP cannot tell the reason of its refusal.

    `same_file` tells whether source and target are names of one file, or the source is a link to the target, which
    would be lost; None if that is not known. It is called only for a link, or if their attributes are equal.
    """
    prefix = f"mv: cannot move '{source}' to '{target}'"
    old, new = (os.fsencode(path.rstrip("/") or "/") for path in (source, target))
    here, there = await asyncio.gather(sftp.lstat(old), sftp.lstat(new), return_exceptions=True)
    if isinstance(here, SftpError):
        raise operation_error(here, f"mv: cannot stat '{source}'")
    if isinstance(here, BaseException):
        raise here
    _check_ends(source, target, prefix, is_folder=_is_folder(here))
    unknown = False
    if isinstance(there, Attrs):
        unknown = await _may_be_same(here, there, prefix, same_file if overwrite else None)
    elif not isinstance(there, SftpError):
        raise there
    try:
        # without posix-rename the server refuses to replace a file: an atomic replacement is then impossible
        await (sftp.rename(old, new) if overwrite else sftp.rename_new(old, new))
    except SftpError as error:
        if error.code not in {FAILURE, BAD_MESSAGE}:  # BAD_MESSAGE is EINVAL: a directory into itself
            raise operation_error(error, prefix) from None
        return await _explain_refusal(sftp, source, target, prefix, error)
    if unknown and await _exists(sftp, old):
        raise Invalid(f"{prefix}: they are the same file")
    return None


async def _may_be_same(
    here: Attrs, there: Attrs, prefix: str, same_file: Callable[[], Awaitable[bool | None]] | None
) -> bool:
    """Whether an existing target may be the source itself; raises the reason why it may not be replaced.

    `same_file` is None if nothing may be replaced.
    """
    if same_file is None:
        raise Conflict(f"{prefix}: File exists")
    _check_types(here, there, prefix)
    if not stat_bits.S_ISLNK(here.mode or 0) and (here[:4] != there[:4] or here.mtime != there.mtime):
        return False
    same = await same_file()
    if same:  # rename(2) does nothing if both are names of one file
        raise Invalid(f"{prefix}: they are the same file")
    return same is None


async def _exists(sftp: Sftp, path: bytes) -> bool:
    try:
        await sftp.lstat(path)
    except SftpError:
        return False
    return True


def _check_ends(source: str, target: str, prefix: str, *, is_folder: bool) -> None:
    for path in (source, target):
        if path.rstrip("/").rpartition("/")[2] in {".", ".."}:
            raise Invalid(f"{prefix}: Invalid argument")
        if path[-1:] == "/" and not is_folder:
            raise Invalid(f"{prefix}: Not a directory")


def _check_types(here: Attrs, there: Attrs, prefix: str) -> None:
    is_folder, on_folder = _is_folder(here), _is_folder(there)
    if on_folder and not is_folder:
        raise Invalid(f"{prefix}: Is a directory")
    if is_folder and not on_folder:
        raise Invalid(f"{prefix}: Not a directory")


def _is_folder(attrs: Attrs) -> bool:
    return stat_bits.S_ISDIR(attrs.mode or 0)


async def _explain_refusal(sftp: Sftp, source: str, target: str, prefix: str, error: SftpError) -> str:
    """Raise the reason why a rename failed: SFTP version 3 answers FAILURE for most reasons."""
    if within(target, source):
        raise Invalid(f"{prefix}: a directory can't be moved into itself")
    above = posixpath.dirname(target.rstrip("/")) or "/"
    try:
        folder = await sftp.stat(os.fsencode(above))
        if not stat_bits.S_ISDIR(folder.mode or 0):
            raise Invalid(f"{prefix}: Not a directory")
        with suppress(SftpError):
            await check_writable(sftp, os.fsencode(above), prefix)
        there = await sftp.lstat(os.fsencode(target.rstrip("/") or "/"))
    except SftpError:
        return error.message or "Failure"
    if stat_bits.S_ISDIR(there.mode or 0):
        raise Conflict(f"{prefix}: Directory not empty")
    raise Conflict(f"{prefix}: File exists")
