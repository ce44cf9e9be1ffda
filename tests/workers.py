"""Starts the workers of pytest-xdist as forks of one process that has imported all test modules.

Each worker would spend some four seconds of processor time on these imports. As a program, this is what xdist starts
as the Python of a worker: it hands its standard streams to a fork, and ends with it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import select
import shlex
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

STREAMS = 3  # input and output, by which execnet talks to a worker, and errors


def start(modules: Sequence[Path]) -> str:
    """Fork the process that imports these modules, and return the command that xdist uses as the Python of a worker.

    The process ends when this one has ended. Its assertions are rewritten as here, because pytest runs here.
    """
    alive, held = os.pipe()  # `held` is closed when this process ends
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")  # Linux chooses a name that no file has
    listener.listen()
    address = listener.getsockname().hex()
    server = os.fork()
    if server == 0:
        os.close(held)
        try:
            _serve(modules, listener, alive)
        finally:
            os._exit(1)
    os.close(alive)
    listener.close()
    atexit.register(_end, server, held)
    return shlex.join([sys.executable, "-IS", __file__, address])


def _end(server: int, held: int) -> None:
    """Wait for the process, and so for all workers: `time` shows what they have spent."""
    os.close(held)
    os.waitpid(server, 0)


def _serve(modules: Sequence[Path], listener: socket.socket, alive: int) -> None:
    """Import the modules, and fork for each connection. Never returns."""
    from _pytest.assertion.rewrite import PYC_TAIL, get_cache_dir  # the client starts fast without it

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # xdist ends its workers itself
    atexit._clear()  # what is registered is for the process of xdist
    compiled = modules[-1].name.replace(".py", PYC_TAIL)
    if not (get_cache_dir(modules[-1]) / compiled).exists() and os.fork() == 0:
        _import(modules[: len(modules) // 2 : -1])  # the first time: two processes compile
        os._exit(0)
    _import(modules)
    gc.freeze()
    while True:
        ready, _, _ = select.select([listener.fileno(), alive], [], [])
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0 if alive in ready else os.WNOHANG)[0]:
                pass
        if alive in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os.close(alive)
            _work(connection)
        connection.close()


def _import(modules: Sequence[Path]) -> None:
    for path in modules:
        with contextlib.suppress(Exception):  # the workers import it again, and pytest shows why they cannot
            importlib.import_module(".".join(path.relative_to(Path(__file__).parent.parent).with_suffix("").parts))


def _work(connection: socket.socket) -> None:
    """Be the Python that xdist has started. The connection stays open until the end of this process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _, streams, _, _ = socket.recv_fds(connection, 1, STREAMS)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # execnet replaces these: they must not close the descriptors when they go
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["-c"]
    code = 0
    try:
        exec(eval(sys.stdin.readline()), {"__name__": "__main__"})  # what execnet sends
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    atexit._run_exitfuncs()
    os._exit(code)


def main() -> None:
    """Hand the standard streams to a fork, and wait for its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(bytes.fromhex(sys.argv[1]))
    socket.send_fds(connection, [b"x"], range(STREAMS))
    os.close(0)
    os.close(1)
    connection.recv(1)


if __name__ == "__main__":
    main()
