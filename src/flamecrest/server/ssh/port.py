"""Commands and SFTP on login nodes, over connections that many requests share: the ports.

`Sessions` is one cluster's; `Session` is one user's on it. Both are cheap handles: connections are opened,
shared, replaced and closed underneath (pool.py). Only this package knows asyncssh.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from flamecrest.server.ssh.command import Command

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.agent_protocol import Question
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.channels.stream import RemoteStream

T = TypeVar("T")


class Session(Protocol):
    """One user's access to one cluster."""

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        """Run the command and return what its parser makes of the output.

        Raises whatever the parser raises; Upstream for SSH failures; Timeout at the deadline, Busy when no
        slot came free by then; TooLarge over `max_output`. On any of these, and on cancellation, the remote
        process is ended and the slot is free again.
        """
        ...

    def stream(self, command: Command[Any], deadline: Deadline) -> AbstractAsyncContextManager[RemoteStream]:
        """The command as it runs, with its input and output as streams; `parse` and `stdin` are not used.

        The deadline limits the start. Leaving the block ends the program if it still runs. Not repeated.
        """
        ...

    async def sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, *, repeatable: bool = False) -> T:
        """Call `use` with the connection's shared SFTP client; again once if `repeatable` and the connection broke.

        Raises what `use` raises, Upstream for SSH failures, Timeout at the deadline, Unsupported when the
        server has no SFTP subsystem.
        """
        ...

    async def stat(self, path: str, deadline: Deadline, *, follow: bool) -> tuple[int, ...]:
        """The numbers of stat(2): dev ino mode nlink uid gid rdev size atime mtime ctime. Can be repeated.

        A twelfth number is the nanoseconds of mtime's fraction, 0 where only the second is known.
        Raises StatError with the errno; else as `sftp`.
        """
        ...

    async def ask(self, question: Question[T], deadline: Deadline) -> T | None:
        """Ask the agent, in one round trip; again once if the question is repeatable and the connection broke.

        None where there is no agent or it leaves this question to a slower way: then nothing was changed.
        Raises StatError where the question is about attributes; else as `sftp`.
        """
        ...

    def open_sftp(self, deadline: Deadline) -> AbstractAsyncContextManager[Sftp]:
        """The shared SFTP client for work that outlives the deadline (streams): it limits the opening only."""
        ...


class Sessions(Protocol):
    """One cluster's login nodes."""

    def of(self, identity: Identity) -> Session:
        """The session of a user: no I/O, never fails."""
        ...

    async def close(self) -> None:
        """Close every connection; waits for nothing that runs."""
        ...

    def stats(self) -> Mapping[str, int]:
        """Counters (opened, replaced, messages and bytes …) and gauges (connections, channels, waiting …)."""
        ...
