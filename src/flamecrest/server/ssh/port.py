"""The ports of the SSH room: commands, SFTP and the agent on login nodes, over connections that requests share.

`Sessions` belongs to one cluster, `Session` to one user of it. Both are cheap handles: the pool opens, shares, replaces
and closes the connections. No other package of the server knows asyncssh.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from flamecrest.server.ssh.command import Command

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.agent import Question
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.channels.stream import RemoteStream
    from flamecrest.server.ssh.series import Series

T = TypeVar("T")


class Session(Protocol):
    """One user's access to one cluster."""

    @property
    def stall_timeout(self) -> float:
        """Seconds without any progress after which a transfer fails."""
        ...

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        """Run the command and return the value of its parser.

        Raises what the parser raises; Upstream for SSH failures; Timeout at the deadline, Busy if no channel was free
        by then; TooLarge over `max_output`. After any of these, and after cancellation, the remote process is ended
        and the channel becomes free. Repeated once if the command is `repeatable` and the connection breaks.
        """
        ...

    async def series(self, deadline: Deadline, *, for_job: bool = False) -> Series:
        """A shell for many short commands, one after the other; with `for_job` for such commands. Close it.

        Raises NotStarted and NoCommands where the login cannot have one, Upstream for SSH failures, Timeout, Busy.
        """
        ...

    def stream(self, command: Command[Any], deadline: Deadline) -> AbstractAsyncContextManager[RemoteStream]:
        """Start the command, with its input and output as streams; `parse` and `stdin` are not used.

        Raises as `run`. The deadline limits the start only. The end of the block ends the program if it still runs.
        Not repeated.
        """
        ...

    async def sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, *, repeatable: bool = False) -> T:
        """Call `use` with a shared SFTP client; once more if `repeatable` and the connection breaks.

        Raises what `use` raises, Upstream for SSH failures, Timeout at the deadline, Unsupported if the cluster offers
        no SFTP.
        """
        ...

    async def stat(self, path: str, deadline: Deadline, *, follow: bool) -> tuple[int, ...]:
        """The result of stat(2), of lstat(2) without `follow`: dev ino mode nlink uid gid rdev size atime mtime ctime.

        A twelfth number is the nanoseconds of mtime's fraction, 0 if only the second is known. Repeated once if the
        connection breaks. Raises StatError with the errno; else as `run`.
        """
        ...

    async def ask(self, question: Question[T], deadline: Deadline) -> T | None:
        """Ask the agent, in one round trip; once more if the question is repeatable and the connection breaks.

        None if there is no agent, or if it leaves the question to SFTP; then nothing was changed.
        Raises StatError if the question is about attributes; else as `sftp`.
        """
        ...

    def open_sftp(
        self, deadline: Deadline, *, on_recall: Callable[[], None] | None = None
    ) -> AbstractAsyncContextManager[Sftp]:
        """A shared SFTP client for streams: the deadline limits the opening only. Raises as `sftp`.

        `on_recall` is called when the stream should end soon, because another user waits for a connection. A stream
        that does not end is cut after a while.
        """
        ...


class Sessions(Protocol):
    """Access to one cluster's login nodes."""

    def of(self, identity: Identity) -> Session:
        """The session of a user. Does no I/O and does not fail."""
        ...

    async def close(self) -> None:
        """Close every connection. Does not wait for commands that run."""
        ...

    def stats(self) -> Mapping[str, int]:
        """Counters (opened, replaced, messages, bytes …) and gauges (connections, channels, waiting …) by name."""
        ...
