"""Clients that ask again and again while a fault lasts, and what each request got."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from tests.live.fault_world import is_error
from tests.live.faults import until

NO_ANSWER = 0  # the status of a request whose connection was refused or broken
Ask = Callable[[], httpx.Response]


@dataclass(frozen=True, slots=True)
class Sample:
    """One request; times by the monotonic clock. `message` is that of an error."""

    what: str
    begun: float
    ended: float
    status: int
    message: str = ""
    client: int = -1  # which of the clients that ask again and again

    @property
    def served(self) -> bool:
        return 200 <= self.status < 300


class Traffic:
    """Threads, each of which repeats one request, with a pause between."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._asks: list[tuple[str, Ask, float]] = []
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()
        self._broken: list[BaseException] = []

    def add(self, what: str, ask: Ask, pause: float = 0.05) -> None:
        self._asks.append((what, ask, pause))

    @property
    def kinds(self) -> set[str]:
        return {what for what, _, _ in self._asks}

    def once(self) -> None:
        """One request of each client, at once; what fails is asked again."""

        def served(what: str, ask: Ask) -> None:
            until(lambda: self.ask(what, ask).served, f"{what} is served")

        with ThreadPoolExecutor(len(self._asks)) as pool:
            for done in [pool.submit(served, what, ask) for what, ask, _ in self._asks]:
                done.result()
        self.samples.clear()

    def start(self) -> None:
        self._threads = [
            threading.Thread(target=self._repeat, args=(number, *one), daemon=True)
            for number, one in enumerate(self._asks)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a request has no end"
        assert not self._broken, self._broken

    def ask(self, what: str, ask: Ask, client: int = -1) -> Sample:
        """Make a request and keep what it got."""
        begun = time.monotonic()
        try:
            answer = ask()
            assert answer.is_success or is_error(answer, answer.status_code)
            status, message = answer.status_code, "" if answer.is_success else answer.json()["message"]
        except httpx.TransportError as error:
            status, message = NO_ANSWER, _lost(error)
        made = Sample(what, begun, time.monotonic(), status, message, client)
        self.samples.append(made)
        return made

    def until_served(self, since: float, times: int = 3, kinds: Collection[str] = ()) -> None:
        """Wait until of each client that asks for these (all) the last requests, all begun since, were served."""
        clients = [number for number, (what, _, _) in enumerate(self._asks) if not kinds or what in kinds]

        def served() -> bool:
            begun = [one for one in list(self.samples) if one.begun >= since]
            last = [[one for one in begun if one.client == number][-times:] for number in clients]
            return all(len(some) == times and all(one.served for one in some) for some in last)

        until(served, "every client is served")

    def _repeat(self, number: int, what: str, ask: Ask, pause: float) -> None:
        try:
            while not self._over.is_set():
                self.ask(what, ask, number)
                self._over.wait(pause)
        except BaseException as error:
            self._broken.append(error)
            raise


def _lost(error: httpx.TransportError) -> str:
    match error:
        case httpx.ConnectError():
            return "the gateway's port refuses the connection"
        case httpx.TimeoutException():
            return "no answer within the client's own timeout"
        case _:
            return "the connection is closed before the end of the answer"
