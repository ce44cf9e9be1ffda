"""Starts gateways fast: a process that has imported the gateway's packages, and forks for each gateway.

A gateway has its own arguments, environment and log, and calls main() as the installed program does.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import sys
from typing import Any

MODULES = (
    "flamecrest.cli.main", "flamecrest.cli.serving", "flamecrest.cli.with_granian", "flamecrest.cli.with_uvicorn",
    "flamecrest.server.app", "flamecrest.server.wiring.gateway",
)  # fmt: skip
LONGEST = 1024 * 1024  # bytes of a request


def next_gateway(connection: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. Returns the request in the forked process, and None when the connection is closed.

    The answer to a request is the pid, with a file descriptor of the process.
    """
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, LONGEST, 1)
        if not request:
            return None
        (log,) = descriptors
        _reap()
        pid = os.fork()
        if pid == 0:
            connection.close()
            for number in (1, 2):
                os.dup2(log, number)
            os.close(log)
            return dict(json.loads(request))
        os.close(log)
        descriptor = os.pidfd_open(pid)
        socket.send_fds(connection, [b"%d" % pid], [descriptor])
        os.close(descriptor)


def _reap() -> None:
    """Forget the gateways that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main() -> int:
    gc.disable()
    for name in MODULES:
        importlib.import_module(name)
    gc.freeze()
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
