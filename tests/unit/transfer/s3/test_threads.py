"""Threads that the end of the process does not wait for."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import wait

import pytest

from flamecrest.server.transfer.s3.threads import DaemonThreads

HANGS = """
import threading
from flamecrest.server.transfer.s3.threads import DaemonThreads
threads, runs = DaemonThreads(2, "test"), threading.Event()
threads.submit(lambda: (runs.set(), threading.Event().wait()))
runs.wait()
threads.close()
print("ends")
"""


def test_the_process_ends_though_a_call_hangs() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")


def test_calls_and_their_errors() -> None:
    threads = DaemonThreads(3, "test")
    calls = [threads.submit(divmod, 7, divisor) for divisor in range(20)]
    wait(calls)
    with pytest.raises(ZeroDivisionError):
        calls[0].result()
    assert [call.result() for call in calls[1:]] == [divmod(7, divisor) for divisor in range(1, 20)]
    threads.close()
    with pytest.raises(RuntimeError, match="shut down"):
        threads.submit(divmod, 1, 1)


def test_at_most_so_many_calls_at_once_and_none_after_the_end() -> None:
    threads, go = DaemonThreads(2, "test"), threading.Event()
    begun = [threading.Event() for _ in range(4)]

    def call(number: int) -> None:
        begun[number].set()
        go.wait()

    calls = [threads.submit(call, number) for number in range(4)]
    assert all(one.wait(40) for one in begun[:2])
    assert calls[2].cancel()
    threads.close()
    go.set()
    wait(calls[:2])
    assert [call.cancelled() for call in calls] == [False, False, True, True]
    assert [one.is_set() for one in begun] == [True, True, False, False]
