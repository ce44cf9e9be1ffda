"""Worker processes: what is started again, what ends all, and that no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS = 50  # for anything that must happen

PROGRAM = """
import os, signal, sys, time
from flamecrest.cli.workers.supervisor import Supervisor

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # one write: lines of several processes stay whole

def work(number, again, reports):
    kind = sys.argv[1]
    if kind == "broken" and number == 2:
        return False
    signal.signal(signal.SIGHUP, lambda *_: say("hangup", number))
    signal.signal(signal.SIGUSR1, lambda *_: say("report", number))
    signal.signal(signal.SIGTERM, lambda *_: say("hurry", number) if kind == "stubborn" else sys.exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    say("again" if again else "first", number, os.getpid())
    reports.serves()
    while True:
        if kind != "silent":
            reports.runs()
        time.sleep(0.1 if float(sys.argv[3]) else 60)

well = Supervisor(2, work, lambda: say("ready"), float(sys.argv[2]), float(sys.argv[3])).run()
say("well" if well else "failed")
"""


class Running:
    """A supervisor of two workers, and what they have printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def until(self, holds: Callable[[list[str]], bool]) -> list[str]:
        """Read lines until this holds of them; returns all of them."""
        assert self.process.stdout is not None
        while not holds(self.lines):
            line = self.process.stdout.readline()
            assert line, (self.lines, self.process.communicate()[1])
            self.lines.append(line.strip())
        return self.lines

    def pids(self) -> dict[str, int]:
        """The process of each worker that runs, once both do."""
        self.until(lambda lines: "ready" in lines)
        started = (line.split() for line in self.lines if line.startswith(("first", "again")))
        return {number: int(pid) for _, number, pid in started}


@contextmanager
def supervised(kind: str = "good", stop_seconds: float = 30, hang_seconds: float = 0) -> Iterator[Running]:
    argv = [sys.executable, "-c", PROGRAM, kind, str(stop_seconds), str(hang_seconds)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        running = Running(process)
        try:
            yield running
        finally:
            process.kill()


def gone(pid: int) -> None:
    """Wait until a process has ended; it need not be our child."""
    end = time.monotonic() + SECONDS
    while os.path.exists(f"/proc/{pid}"):  # noqa: PTH110
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_worker_is_started_again_and_the_other_goes_on() -> None:
    with supervised() as running:
        before = running.pids()
        os.kill(before["1"], signal.SIGKILL)
        running.until(lambda lines: any(line.startswith("again 1 ") for line in lines))
        after = running.pids()
        assert after["2"] == before["2"]
        assert after["1"] != before["1"]
        os.kill(after["1"], signal.SIGKILL)  # once more, and the other with it
        os.kill(after["2"], signal.SIGKILL)
        running.until(lambda lines: sum(line.startswith("again") for line in lines) == 3)
        running.process.terminate()
        running.until(lambda lines: lines[-1] == "well")
        for pid in running.pids().values():
            gone(pid)
    assert running.lines.count("ready") == 1


def test_signals_reach_every_worker() -> None:
    with supervised() as running:
        running.pids()
        for number, word in ((signal.SIGHUP, "hangup"), (signal.SIGUSR1, "report")):
            running.process.send_signal(number)
            running.until({f"{word} 1", f"{word} 2"}.issubset)


def test_a_worker_that_cannot_start_ends_all() -> None:
    with supervised("broken") as running:
        running.until(lambda lines: lines[-1:] == ["failed"])
        assert "ready" not in running.lines
        for line in running.lines:
            if line.startswith("first"):
                gone(int(line.split()[2]))


def test_a_worker_that_does_not_stop_is_killed() -> None:
    with supervised("stubborn", stop_seconds=3) as running:
        pids = running.pids()
        running.process.send_signal(signal.SIGINT)
        running.until(lambda lines: {"hurry 1", "hurry 2"} <= set(lines))
        running.process.terminate()  # a second signal to stop is passed on
        running.until(lambda lines: lines.count("hurry 1") == lines.count("hurry 2") == 2)
        running.until(lambda lines: lines[-1] == "well")
        for pid in pids.values():
            gone(pid)


def test_a_worker_that_hangs_is_killed_and_replaced() -> None:
    with supervised(hang_seconds=5) as running:
        before = running.pids()
        os.kill(before["2"], signal.SIGSTOP)
        running.until(lambda lines: any(line.startswith("again 2 ") for line in lines))
        assert running.pids()["1"] == before["1"]  # the other one has reported in time
        running.process.terminate()
        running.until(lambda lines: lines[-1] == "well")
        _, errors = running.process.communicate()
    assert "a worker hangs: nothing done for" in errors
    assert errors.count("a worker has ended by signal 9") == 1


def test_workers_are_not_killed_for_a_time_in_which_all_was_stopped() -> None:
    """As `docker pause` or a suspended machine does: all processes go on at the same moment."""
    with supervised(hang_seconds=4) as running:
        before = running.pids()
        everyone = [running.process.pid, *before.values()]
        for pid in everyone:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(5)  # this long nobody runs: the time itself is what is tested
        for pid in everyone:  # the supervisor first: it looks at workers that have not reported since
            os.kill(pid, signal.SIGCONT)
        for _ in range(3):
            running.process.send_signal(signal.SIGUSR1)
            running.until({"report 1", "report 2"}.issubset)
            running.lines = [line for line in running.lines if not line.startswith("report")]
        assert running.pids() == before


def test_a_worker_that_has_never_reported_does_not_hang() -> None:
    with supervised("silent", hang_seconds=0.1) as running:
        before = running.pids()
        for _ in range(5):  # each makes the supervisor look
            running.process.send_signal(signal.SIGUSR1)
            running.until({"report 1", "report 2"}.issubset)
            running.lines = [line for line in running.lines if not line.startswith("report")]
        assert running.pids() == before


def test_workers_end_with_their_supervisor() -> None:
    with supervised() as running:
        pids = running.pids()
        running.process.kill()
        for pid in pids.values():
            gone(pid)
