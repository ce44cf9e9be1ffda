"""Starts the workers of pytest-xdist fast: they are forked from one process that has imported all test modules.

To import them takes a worker two seconds of processor time.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from _pytest.config import _prepareconfig

from . import worker

ROOT = Path(__file__).parents[1]
LONGEST = 64 * 1024  # bytes of the code that execnet starts a worker with


def starting_workers(modules: Sequence[str]) -> str:
    """Start the server, which imports the modules and ends with this process. Returns the command of a worker."""
    folder = tempfile.mkdtemp(prefix="flamecrest-workers-")  # only this user may connect
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"{folder}/socket")
        listener.listen()
        code = f"from {__name__} import serve; serve({listener.fileno()}, {list(modules)})"
        argv = [sys.executable, "-c", code]
        server = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])

    def end() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        shutil.rmtree(folder)

    atexit.register(end)
    return shlex.join((sys.executable, "-IS", worker.__file__, f"{folder}/socket"))


def serve(descriptor: int, modules: Sequence[str]) -> None:
    """Import the modules as pytest does, and fork for each connection, until the standard input is closed.

    In the forked process, execute the code of the worker.
    """
    config = _prepareconfig([])  # imports conftest.py, and makes failed assertions show their values
    for name in modules:
        with suppress(Exception, pytest.skip.Exception):  # shown by the collection, which imports it again
            importlib.import_module(name)
    config._ensure_unconfigure()
    if threading.active_count() > 1:
        raise RuntimeError(f"A test module starts a thread, which a worker would not have: {threading.enumerate()}")
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as listener:
        begun = _next_worker(listener)
    if begun is not None:
        connection, code = begun
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with connection:
            exec(code, {"__name__": "__main__"})  # execnet's, of our own user


def _next_worker(listener: socket.socket) -> tuple[socket.socket, str] | None:
    """Fork for each connection: returns it, with the code, in the forked process, and None at the end of the input."""
    while True:
        readable, _, _ = select.select((listener.fileno(), 0), (), ())
        if 0 in readable:
            _reap()
            return None
        connection, _ = listener.accept()
        code, streams, _, _ = socket.recv_fds(connection, LONGEST, len(worker.STREAMS))
        forked = os.fork() == 0
        if forked:
            for number, stream in zip(worker.STREAMS, streams, strict=True):
                os.dup2(stream, number)
        for stream in streams:
            os.close(stream)
        if forked:
            return connection, code.decode()
        connection.close()


def _reap() -> None:
    """Wait for all workers: their processor time counts as that of the tests."""
    with suppress(ChildProcessError):
        while True:
            os.wait()
