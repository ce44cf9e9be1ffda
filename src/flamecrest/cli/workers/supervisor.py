"""Keeps worker processes running: forks them, replaces those that have ended or hang, stops all. Knows no HTTP.

It takes its signals one after the other with sigtimedwait(2), and has no thread and no event loop: a fork copies
nothing that runs, and no signal comes between a look at the workers and the wait.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from typing import Final


@dataclass(frozen=True, slots=True)
class Reports:
    """What a worker tells the supervisor: `serves` once, `runs` again and again while its event loop turns."""

    serves: Callable[[], None]
    runs: Callable[[], None]


Work = Callable[[int, bool, Reports], bool]
"""What a worker does until SIGTERM: `(number, again, reports)`, False if it could not start. Numbers begin at 1;
`again` says that another worker had this number before."""

QUICK_SECONDS: Final = 10.0  # a worker that ends sooner may do so again and again
PAUSES: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # in seconds, by the number of quick ends in succession
_START_LOOK_SECONDS: Final = 0.1  # between two looks at workers that start
_LOOKS: Final = 4  # at workers that may hang, in the time after which one is replaced
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)

_STOP: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_PASSED_ON: Final = frozenset({signal.SIGHUP, signal.SIGUSR1})
_SIGNALS: Final = _STOP | _PASSED_ON | {signal.SIGCHLD}

_fork: Final = multiprocessing.get_context("fork")
log = logging.getLogger("flamecrest.serve")


@dataclass(slots=True)
class _Worker:
    """A worker's place. `due` is the monotonic time of its next start while no process runs."""

    number: int
    process: ForkProcess | None = None
    started: float = 0.0
    due: float = 0.0
    again: bool = False
    quick_ends: int = 0  # in succession


class Supervisor:
    """The workers 1 to `count`. `ready` is called once, when all of them serve.

    `stop_seconds` is the time that they have to stop after SIGTERM; then they are killed. A worker that has reported
    for `hang_seconds` no more that it runs is killed and replaced; 0: never.
    """

    def __init__(
        self, count: int, work: Work, ready: Callable[[], None], stop_seconds: float, hang_seconds: float
    ) -> None:
        self._workers = [_Worker(number) for number in range(1, count + 1)]
        self._work = work
        self._ready = ready
        self._stop_seconds = stop_seconds
        self._hang_seconds = hang_seconds
        self._serves = _fork.RawArray("b", count)  # shared with the workers
        self._ran = _fork.RawArray("d", count)  # when each has last reported that it runs, monotonic; 0: not yet
        self._looked = time.monotonic()
        self._announced = False
        self._failed = False
        self._pid = os.getpid()

    def run(self) -> bool:
        """Run until SIGTERM or SIGINT; False if a worker could not start while the first ones were started.

        SIGHUP and SIGUSR1 are passed on to all workers. The signals stay blocked in this process.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for number in (*_PASSED_ON, signal.SIGCHLD):  # a signal that is ignored need not be kept for sigtimedwait
            signal.signal(number, lambda *_: None)
        while not self._failed:
            self._start()
            taken = signal.sigtimedwait(_SIGNALS, self._pause())
            if taken is not None and taken.si_signo in _STOP:
                break
            if taken is not None and taken.si_signo in _PASSED_ON:
                self._send(taken.si_signo)
            self._look()
        self._stop()
        return not self._failed

    def _start(self) -> None:
        """Start the workers that are due."""
        now = time.monotonic()
        for worker in self._workers:
            if worker.process is None and worker.due <= now:
                self._serves[worker.number - 1] = 0
                self._ran[worker.number - 1] = 0.0
                worker.process = _fork.Process(target=self._child, args=(worker.number, worker.again))
                worker.process.start()
                worker.started = now

    def _pause(self) -> float:
        """The time to wait for a signal, in seconds."""
        if not self._announced:
            return _START_LOOK_SECONDS
        due = [worker.due for worker in self._workers if worker.process is None]
        pause = max(0.0, min(due) - time.monotonic()) if due else 3600.0
        return min(pause, self._hang_seconds / _LOOKS) if self._hang_seconds else pause

    def _look(self) -> None:
        """Note which workers have ended, and whether all serve. End those that hang."""
        for worker in self._workers:
            if worker.process is not None and worker.process.exitcode is not None:
                self._ended(worker, worker.process)
        if self._hang_seconds:
            self._end_hanging()
        if not self._announced and all(self._serves):
            self._announced = True
            self._ready()

    def _end_hanging(self) -> None:
        """Kill the workers whose event loop does not turn. They are replaced when they have ended."""
        now = time.monotonic()
        if now - self._looked > self._hang_seconds / 2:  # this process was stopped itself, maybe the whole machine
            self._ran[:] = [max(ran, now) if ran else ran for ran in self._ran]
        self._looked = now
        for worker in self._workers:
            ran = self._ran[worker.number - 1]
            if worker.process is None or not ran or now - ran <= self._hang_seconds:
                continue
            fields = {"worker": worker.number, "pid": worker.process.pid}
            log.error("a worker hangs: nothing done for %.1f s, it is killed", now - ran, extra={"fields": fields})
            worker.process.kill()
            self._ran[worker.number - 1] = 0.0  # it is killed once

    def _ended(self, worker: _Worker, process: ForkProcess) -> None:
        status, pid, now = process.exitcode or 0, process.pid, time.monotonic()
        process.close()
        worker.process, worker.again = None, True
        if not self._announced and not self._serves[worker.number - 1]:
            self._failed = True
            return
        quick = now - worker.started < QUICK_SECONDS
        worker.quick_ends = worker.quick_ends + 1 if quick else 0
        pause = PAUSES[min(max(0, worker.quick_ends - 1), len(PAUSES) - 1)]
        worker.due = now + pause
        why = f"by signal {-status}" if status < 0 else f"with status {status}"
        fields = {"worker": worker.number, "pid": pid, "pause": pause}
        log.error("a worker has ended %s: it is started again", why, extra={"fields": fields})

    def _send(self, number: int) -> None:
        """Send a signal to the workers that run."""
        for worker in self._workers:
            if worker.process is not None and worker.process.pid is not None and worker.process.is_alive():
                os.kill(worker.process.pid, number)

    def _stop(self) -> None:
        """Stop all workers. Another signal to stop is passed on: it makes them stop sooner."""
        self._send(signal.SIGTERM)
        until = time.monotonic() + self._stop_seconds
        running = [worker.process for worker in self._workers if worker.process is not None]
        while running := [process for process in running if process.is_alive()]:
            left = until - time.monotonic()
            if left <= 0:
                log.error("%d workers have not stopped within %g s and are killed", len(running), self._stop_seconds)
                for process in running:
                    process.kill()
                    process.join()
                return
            taken = signal.sigtimedwait(_SIGNALS, left)
            if taken is not None and taken.si_signo in _STOP:
                self._send(signal.SIGTERM)

    def _child(self, number: int, again: bool) -> None:
        os.setpgid(0, 0)  # Ctrl-C is for the parent, which sends SIGTERM
        _end_with(self._pid)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # SIGHUP waits until the worker has a handler, because it may have read its configuration before that
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS - {signal.SIGHUP})
        place = number - 1
        reports = Reports(
            lambda: self._serves.__setitem__(place, 1), lambda: self._ran.__setitem__(place, time.monotonic())
        )
        served = self._work(number, again, reports)
        logging.shutdown()  # multiprocessing calls no exit handlers
        sys.exit(0 if served else 1)


def _end_with(parent: int) -> None:
    """Make the system stop this process when its parent is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)
