"""Threads for requests that may hang. They know nothing of what they run."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_Work = tuple[Future[Any], "Callable[[], Any]"]


class DaemonThreads(Executor):
    """Up to `most` threads for an event loop's `run_in_executor`.

    Unlike those of ThreadPoolExecutor, the end of the process does not wait for them.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads = 0
        self._closed = False

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call a function in one of the threads, or when one has no other work. Not to be called by two threads."""
        if self._closed:
            raise RuntimeError("the threads have been shut down")
        future: Future[T] = Future()
        self._work.put((future, lambda: function(*args, **kwargs)))
        if not self._idle.acquire(blocking=False) and self._threads < self._most:
            self._threads += 1
            threading.Thread(target=self._run, name=f"{self._name}-{self._threads}", daemon=True).start()
        return future

    def close(self) -> None:
        """Start nothing more, and end the threads. Work that a thread is at is not waited for."""
        self._closed = True
        while not self._work.empty():
            if (waiting := self._work.get()) is not None:
                waiting[0].cancel()
        for _ in range(self._threads):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            _do(*work)
            del work  # else the result would be kept until there is more work
            self._idle.release()


def _do(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 -- it is raised where the result is awaited
        future.set_exception(error)
    else:
        future.set_result(result)
