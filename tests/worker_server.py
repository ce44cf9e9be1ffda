"""Starts the workers of pytest-xdist fast: they are forked from one process that has imported all test modules.

To import them takes a worker two seconds of processor time. The workers share one fork server of gateways, too.
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
from .live import fork_server

ROOT = Path(__file__).parents[1]
LONGEST = 64 * 1024  # bytes of the code that execnet starts a worker with


def starting_workers(modules: Sequence[str]) -> str:
    """Start the server, which imports the modules and ends with this process. Returns the command of a worker."""
    folder = tempfile.mkdtemp(prefix="flamecrest-workers-")  # only this user may connect
    gateways = {**os.environ, fork_server.ADDRESS: f"{folder}/gateways"}
    with _listening(f"{folder}/workers") as listener, _listening(gateways[fork_server.ADDRESS]) as other:
        code = f"from {__name__} import serve; serve({listener.fileno()}, {other.fileno()}, {list(modules)})"
        descriptors = [listener.fileno(), other.fileno()]
        argv = [sys.executable, "-c", code]
        server = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, pass_fds=descriptors, env=gateways)

    def end() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        shutil.rmtree(folder)

    atexit.register(end)
    return shlex.join((sys.executable, "-IS", worker.__file__, f"{folder}/workers"))


def _listening(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    return listener


def serve(descriptor: int, gateways: int, modules: Sequence[str]) -> None:
    """Import the modules as pytest does, and fork for each connection, until the standard input is closed.

    In the forked process, execute the code of the worker. `gateways` is the socket of the fork server of gateways.
    """
    os.set_inheritable(descriptor, False)
    os.posix_spawn(sys.executable, [sys.executable, "-m", fork_server.__name__, str(gateways)], os.environ)
    os.close(gateways)
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
