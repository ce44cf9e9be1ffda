"""Resource analysis, on real processes: whose time counts, and which process it is that listens."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.measure import resources

# waits for a child that has worked, then says so and waits with another child alive
PARENT = """
import subprocess, sys
work = "n = 0\\nimport time\\nwhile time.process_time() < 0.15: n += 1"
subprocess.run([sys.executable, "-S", "-c", work])
with subprocess.Popen([sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]):
    print("ready", flush=True)
"""


@contextmanager
def parent() -> Iterator[int]:
    """A process with a child that is over and one that is not; both end with its standard input."""
    argv = [sys.executable, "-S", "-c", PARENT]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def test_a_tree_is_what_lives_and_its_time_includes_who_has_ended() -> None:
    with parent() as pid:
        tree = resources.tree(pid)
        assert tree[0] == pid
        assert len(tree) == 2
        assert resources.processor(tree) >= 0.12
        assert resources.proportional(tree) > 1
        assert resources.resident(pid) > 1


def test_a_process_that_has_ended_takes_nothing() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        process.wait()
    assert resources.processor([process.pid]) == 0
    assert resources.proportional([process.pid]) == 0
    assert resources.tree(process.pid) == [process.pid]


def test_who_listens_on_a_port_is_found_and_who_is_connected_is_not() -> None:
    code = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    argv = [sys.executable, "-S", "-c", code + "; c, _ = s.accept(); sys.stdin.read()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)):
            assert resources.listener(port) == process.pid
    assert resources.listener(port) is None


def test_growth_is_the_peak_and_not_what_is_left_of_it() -> None:
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


def test_a_burst_is_divided_by_its_requests() -> None:
    with parent() as pid:
        meter = resources.Meter(pid, None)
        meter.sample_memory()
        load = meter.usage(100)
        assert load.sshd_ms is None
        assert load.sshd_mib is None
        assert 0 <= load.server_ms < 1
        assert load.server_mib > 1
        assert {name for name, _ in load.quantities()} == {"ms of processor a request, server", "MiB, server"}
