"""Starts gateways fast: a process that has imported the gateway's packages, and forks for each gateway.

A gateway has its own arguments, environment and log, and calls main() as the installed program does.
`python -m tests.live.fork_server DESCRIPTOR` serves a connection until it is closed, or all connections to a listening
socket until the standard input is closed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import socket
import sys
from typing import Any

MODULES = (
    "flamecrest.cli.main", "flamecrest.cli.serving.run", "flamecrest.cli.serving.with_granian",
    "flamecrest.cli.serving.with_uvicorn",
    "flamecrest.server.app", "flamecrest.server.wiring.gateway",
)  # fmt: skip
LONGEST = 1024 * 1024  # bytes of a request
ADDRESS = "TESTS_FORK_SERVER"  # environment variable: the socket of a server that several processes share


def next_gateway(first: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. Returns the request in the forked process, and None at the end.

    The answer to a request is the pid, with a file descriptor of the process.
    """
    listens = first.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    sources: dict[int, socket.socket | None] = {first.fileno(): first} | ({0: None} if listens else {})
    while True:
        for descriptor in select.select(sources, (), ())[0]:
            source = sources[descriptor]
            if source is None:
                return None
            if listens and source is first:
                connection, _ = source.accept()
                sources[connection.fileno()] = connection
                continue
            request, descriptors, _, _ = socket.recv_fds(source, LONGEST, 1)
            if request:
                if _forked(source, *descriptors):
                    for other in sources.values():
                        if other is not None:
                            other.close()
                    return dict(json.loads(request))
            elif not listens:
                return None
            else:
                del sources[descriptor]
                source.close()


def _forked(source: socket.socket, log: int) -> bool:
    """Fork, and answer with the new process, in which this is true and whose output is the log."""
    _reap()
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        for number in (1, 2):
            os.dup2(log, number)
        os.close(log)
        return True
    os.close(log)
    descriptor = os.pidfd_open(pid)
    socket.send_fds(source, [b"%d" % pid], [descriptor])
    os.close(descriptor)
    return False


def _import_modules() -> None:
    """Import what gateways need."""
    gc.disable()
    for name in MODULES:
        importlib.import_module(name)
    gc.freeze()


def _reap() -> None:
    """Forget the gateways that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main() -> int:
    _import_modules()
    request = next_gateway(socket.socket(fileno=int(sys.argv[1])))
    if request is None:
        _reap()
        return 0
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv = list(request["argv"])
    gc.enable()
    command = importlib.import_module("flamecrest.cli.main").main
    return int(command() or 0)


if __name__ == "__main__":
    sys.exit(main())
