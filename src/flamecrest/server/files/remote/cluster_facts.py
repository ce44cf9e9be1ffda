"""Facts about one cluster: names of file owners, and the time zone of listings, as each user's login gives them.

A user can change what the own login answers (start-up files, PATH, TZ), so nothing of it is used for another user.
"""

from __future__ import annotations

import io
import time
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from flamecrest.server.errors import GatewayError
from flamecrest.server.files.read_ahead import ReadAhead
from flamecrest.server.files.remote.replacement.path_locks import PathLocks
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ, SftpError
from flamecrest.server.ssh.command import Command, Output
from flamecrest.server.ssh.errors import NO_PROGRAM

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

CACHE_SECONDS = 600.0  # seconds for which names and time zone are cached
MAX_USERS = 500  # whose facts are cached
MAX_NAMES = 1000  # in the cache of one user
MAX_NAME = 256  # characters of a name that is cached


class ClusterFacts:
    """The facts that each user of one cluster has been given, and what all users share.

    Shared are the locks of paths, and with all other clusters the limits of reading ahead.
    """

    def __init__(self, read_ahead: ReadAhead | None = None) -> None:
        self.read_ahead = read_ahead or ReadAhead()
        self._users: dict[str, UserFacts] = {}
        self.path_locks = PathLocks()

    def of(self, username: str) -> UserFacts:
        """The facts of one user; those of the user who came first are forgotten when there are too many."""
        found = self._users.get(username)
        if found is None:
            if len(self._users) >= MAX_USERS:
                del self._users[next(iter(self._users))]
            found = self._users[username] = UserFacts()
        return found


class UserFacts:
    """A cache of owner names and of the time zone, as one user's login gives them."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int], tuple[str, float]] = {}
        self._zone: tuple[tzinfo, float] | None = None

    async def owner(self, session: Session, uid: int, gid: int, deadline: Deadline) -> tuple[str, str]:
        """Return the names of a user and a group, or their numbers if they have none."""
        user, group = self._known("passwd", uid), self._known("group", gid)
        if user is None or group is None:
            user, group = await _names(session, uid, gid, deadline)
            self.learn(uid, gid, (user, group))
        return user, group

    def learn(self, uid: int, gid: int, names: tuple[str, str]) -> None:
        """Cache names that came with another answer."""
        if len(self._names) >= MAX_NAMES:
            self._names.clear()
        if max(map(len, names)) > MAX_NAME:
            return
        now = time.monotonic()
        self._names["passwd", uid] = (names[0], now)
        self._names["group", gid] = (names[1], now)

    def _known(self, database: str, number: int) -> str | None:
        found = self._names.get((database, number))
        return found[0] if found is not None and time.monotonic() - found[1] < CACHE_SECONDS else None

    @property
    def known_zone(self) -> tzinfo | None:
        """The time zone if it is cached, else None."""
        return self._zone[0] if self._zone is not None and time.monotonic() - self._zone[1] <= CACHE_SECONDS else None

    async def zone(self, sftp: Sftp) -> tzinfo:
        """Return the cluster's time zone from its /etc/localtime; UTC if there is none."""
        known = self.known_zone
        if known is None:
            known = await _zone(sftp)
            self._zone = known, time.monotonic()
        return known


async def _zone(sftp: Sftp) -> tzinfo:
    try:
        async with sftp.handle(sftp.open_file(b"/etc/localtime", FLAG_READ)) as handle:
            rules = await sftp.read(handle, 0, 32768)
        return ZoneInfo.from_file(io.BytesIO(rules))
    except (SftpError, GatewayError, ValueError):
        return UTC


async def _names(session: Session, uid: int, gid: int, deadline: Deadline) -> tuple[str, str]:
    """The names of a user and a group, or their numbers. Where no command runs, the SFTP server may know them."""
    try:
        answer = await session.run(_getent(uid, gid), deadline)
    except NO_PROGRAM:
        try:
            user, group = await session.sftp(lambda sftp: sftp.owner_names(uid, gid), deadline, repeatable=True)
        except SftpError:  # an extension of OpenSSH 9.1
            user = group = ""
        return user or str(uid), group or str(gid)
    return answer.get("passwd", str(uid)), answer.get("group", str(gid))


def _getent(uid: int, gid: int) -> Command[dict[str, str]]:
    # one process for both; an id without a name gives an empty line, not an error
    script = 'getent passwd "$1" | sed "s/^/passwd:/"; getent group "$2" | sed "s/^/group:/"'
    return Command(("sh", "-c", script, "getent", str(uid), str(gid)), _parse, repeatable=True)


def _parse(output: Output) -> dict[str, str]:
    found = {}
    for line in output.text().splitlines():
        database, _, entry = line.partition(":")
        name = entry.partition(":")[0]
        if name:
            found[database] = name
    return found
