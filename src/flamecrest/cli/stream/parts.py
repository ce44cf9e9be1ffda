"""Work on the parts of a file with several connections; what a lost connection leaves is done by others."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from flamecrest.server.transfer.programs.streams import Broken, Stream

from .connecting import Failure, Job

MOST_WRONG: Final = 20  # parts whose SHA-256 may be wrong
PAUSE: Final = 1.0  # seconds before a lost connection is opened again


class Parts:
    """Parts by number. `work(stream, number)` does one, and returns whether it is right; if not it is done again."""

    def __init__(self, job: Job, numbers: Iterable[int], work: Callable[[Stream, int], bool], retry: float) -> None:
        self._job = job
        self._todo = deque(numbers)
        self._work = work
        self._retry = retry
        self._lock = threading.Lock()
        self._progress = time.monotonic()  # when a part was last done
        self._wrong = 0  # parts that had to be done again
        self._failure: BaseException | None = None

    def run(self, streams: int) -> None:
        """Do all parts. Raises Failure if no part is done for `retry` seconds, and what `work` raises."""
        threads = [threading.Thread(target=self._stream, daemon=True) for _ in range(min(streams, len(self._todo)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _stream(self) -> None:
        """One connection after another, until there is nothing to do."""
        while self._todo and self._failure is None:
            try:
                self._connected()
            except Broken as error:
                if time.monotonic() - self._progress > self._retry:
                    self._failure = Failure(f"the connection was lost: {error}")
                time.sleep(PAUSE)
            except BaseException as error:  # noqa: BLE001 -- raised by run
                self._failure = error

    def _connected(self) -> None:
        stream = self._job.connect()
        try:
            while self._failure is None and (number := self._next()) is not None:
                done = False
                try:
                    done = self._work(stream, number)
                finally:
                    if done:
                        self._progress = time.monotonic()
                    else:
                        self._todo.append(number)
                if not done:
                    self._count_wrong()
        finally:
            stream.close()

    def _count_wrong(self) -> None:
        self._wrong += 1
        if self._wrong > MOST_WRONG:
            raise Failure("the bytes that arrive are not those that were sent, again and again")

    def _next(self) -> int | None:
        with self._lock:
            return self._todo.popleft() if self._todo else None
