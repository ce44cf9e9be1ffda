"""A worker of pytest-xdist, as execnet starts it: `worker.py SOCKET -u -c CODE`, in place of Python.

Passes the code and its standard streams to the server, which forks a process for them (worker_server.py), and ends when
that process does. It imports nothing else, because it only waits.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

STREAMS = (0, 1, 2)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides
    path, *_, code = sys.argv[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(path)
        socket.send_fds(server, [code.encode()], STREAMS)
        for stream in STREAMS:
            os.close(stream)  # the worker alone reads and writes them
        server.recv(1)  # the worker has the other end until it ends


if __name__ == "__main__":
    main()
