"""What all users of one cluster share about its files: names of owners, and the time zone of its listings."""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from flamecrest.server.errors import GatewayError
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ, SftpError
from flamecrest.server.ssh.command import Command, Output

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

KEPT_FOR = 600.0  # seconds for which a name or the time zone is believed


class ClusterFacts:
    """The names and the clock of one cluster, asked for once and kept for a while."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int], tuple[str, float]] = {}
        self._zone: tuple[tzinfo, float] | None = None

    async def owner(self, session: Session, uid: int, gid: int, deadline: Deadline) -> tuple[str, str]:
        """The names of a user and a group; the numbers where they have none."""
        user, group = self._known("passwd", uid), self._known("group", gid)
        if user is None or group is None:
            answer = await session.run(_getent(uid, gid), deadline)
            user, group = answer.get("passwd", str(uid)), answer.get("group", str(gid))
            self.learn(uid, gid, (user, group))
        return user, group

    def learn(self, uid: int, gid: int, names: tuple[str, str]) -> None:
        """Remember names that some answer brought along."""
        now = time.monotonic()
        self._names["passwd", uid] = (names[0], now)
        self._names["group", gid] = (names[1], now)

    def _known(self, database: str, number: int) -> str | None:
        found = self._names.get((database, number))
        return found[0] if found is not None and time.monotonic() - found[1] < KEPT_FOR else None

    @property
    def known_zone(self) -> tzinfo | None:
        """The cluster's time zone, if it was asked for lately."""
        return self._zone[0] if self._zone is not None and time.monotonic() - self._zone[1] <= KEPT_FOR else None

    async def zone(self, sftp: Sftp) -> tzinfo:
        """The cluster's time zone, from its own /etc/localtime; UTC where it has none."""
        known = self.known_zone
        if known is None:
            known = await _zone(sftp)
            self._zone = known, time.monotonic()
        return known


def local_time(seconds: int, zone: tzinfo) -> str:
    """A time as `ls` of the cluster shows it: YYYY-MM-DDTHH:MM:SS without offset."""
    try:
        return datetime.fromtimestamp(seconds, zone).replace(tzinfo=None).isoformat()
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC).replace(tzinfo=None).isoformat()


async def _zone(sftp: Sftp) -> tzinfo:
    try:
        async with sftp.handle(sftp.open_file(b"/etc/localtime", FLAG_READ)) as handle:
            rules = await sftp.read(handle, 0, 32768)
        return ZoneInfo.from_file(io.BytesIO(rules))
    except (SftpError, GatewayError, ValueError):
        return UTC


def _getent(uid: int, gid: int) -> Command[dict[str, str]]:
    # one process for both; an id without a name is an empty answer and no failure
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
