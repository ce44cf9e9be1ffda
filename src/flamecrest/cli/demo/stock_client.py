"""A large file of the tour by pyfirecrest, FirecREST's own client, if it is installed."""

from __future__ import annotations

import importlib.util
import os
import warnings
from typing import TYPE_CHECKING, Literal

from .output import DemoError

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = 16 * 1024 * 1024  # bytes of the large file
CHUNK = 1024 * 1024  # bytes of it that are made at once


def is_installed() -> bool:
    """Whether this Python has pyfirecrest."""
    return importlib.util.find_spec("firecrest") is not None


def transfer(
    verb: Literal["upload", "download"], url: str, token: str, system: str, folder: str, show: Callable[[int], None]
) -> None:
    """Upload the large file to `folder`, or download it. Blocks; `show` is called with the bytes so far.

    Raises DemoError if other content comes back.
    """
    from firecrest.v2 import Firecrest  # noqa: PLC0415 -- not everybody has it

    client, content = Firecrest(url, Token(token)), Content(show)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the client's HTTP library
        if verb == "upload":
            client.upload(system, content, folder, "by-client.bin", file_size=LARGE)
        else:
            download = client.download(system, f"{folder}/by-client.bin", os.devnull, blocking=False)
            download.wait_for_transfer_job()
            download.chunk_size = CHUNK
            download.download_file_from_stage(content)
    client.close_session()
    if (content.at, content.right) != (LARGE, True):
        raise DemoError("the file that pyfirecrest has uploaded is another one when it is downloaded")


class Token:
    """The caller's token, as pyfirecrest asks for it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_access_token(self) -> str:
        return self._token


class Content:
    """The large file as pyfirecrest reads or writes it, in memory of one chunk. It says how far it is."""

    def __init__(self, show: Callable[[int], None]) -> None:
        self._show = show
        self.at = 0
        self.right = True  # what was written is the content of the file

    def read(self, size: int) -> bytes:
        data = self._data(min(size, LARGE - self.at))
        self._show(self.at)
        return data

    def write(self, data: bytes) -> int:
        self.right = self.right and self._data(len(data)) == data
        self._show(self.at)
        return len(data)

    def _data(self, size: int) -> bytes:
        start, end = self.at, self.at + size
        first = start // CHUNK
        whole = b"".join(chunk_of(number) for number in range(first, -(-end // CHUNK)))
        self.at = end
        return whole[start - first * CHUNK : end - first * CHUNK]


def chunk_of(number: int) -> bytes:
    """The bytes of the large file at a number of CHUNK bytes."""
    return number.to_bytes(8) * (CHUNK // 8)
