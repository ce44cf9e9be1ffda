"""Resource analysis of real processes."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.measure import resources

# runs a busy child to its end, prints a line, and waits while another child is running
PARENT = """
import subprocess, sys
work = "n = 0\\nimport time\\nwhile time.process_time() < 0.15: n += 1"
subprocess.run([sys.executable, "-S", "-c", work])
with subprocess.Popen([sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]):
    print("ready", flush=True)
"""


@contextmanager
def parent() -> Iterator[int]:
    """A process with an ended child and a running one; both end when its standard input is closed."""
    argv = [sys.executable, "-S", "-c", PARENT]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def test_tree_has_running_processes_and_the_time_of_ended_ones() -> None:
    with parent() as pid:
        tree = resources.tree(pid)
        assert tree[0] == pid
        assert len(tree) == 2
        assert resources.processor(tree) >= 0.12
        assert resources.proportional(tree) > 1
        assert resources.resident(pid) > 1


def test_ended_process_uses_nothing() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        process.wait()
    assert resources.processor([process.pid]) == 0
    assert resources.proportional([process.pid]) == 0
    assert resources.tree(process.pid) == [process.pid]


def test_listening_process_is_found_and_connected_one_is_not() -> None:
    code = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    argv = [sys.executable, "-S", "-c", code + "; c, _ = s.accept(); sys.stdin.read()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)):
            assert resources.listener(port) == process.pid
    assert resources.listener(port) is None


def test_growth_is_the_peak() -> None:
    code = "print(flush=True)\nfor _ in input(): pass\nb'x' * (64 << 20)\nprint(flush=True)\ninput()"
    argv = [sys.executable, "-S", "-c", code.replace("b'x' * (64 << 20)", "bytearray(64 << 20)[::4096]")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        growth = resources.Growth(process.pid)
        process.stdin.write(b"go\n")
        process.stdin.flush()
        process.stdout.readline()
        assert 60 < growth.peak() < 80
        process.stdin.write(b"end\n")


def test_usage_is_divided_by_the_number_of_requests() -> None:
    with parent() as pid:
        meter = resources.Meter(pid, None)
        meter.sample_memory()
        usage = meter.usage(100)
        assert usage.sshd_ms is None
        assert usage.sshd_mib is None
        assert 0 <= usage.server_ms < 1
        assert usage.server_mib > 1
        assert {name for name, _ in usage.quantities()} == {"ms of processor a request, server", "MiB, server"}
