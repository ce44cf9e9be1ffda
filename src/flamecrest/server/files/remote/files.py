"""The Files port over SSH: SFTP for everything it can do, commands only for what the cluster itself computes."""

from __future__ import annotations

from flamecrest.server.files.remote.changes import Changes
from flamecrest.server.files.remote.content import Carrying
from flamecrest.server.files.remote.queries import Looking


class RemoteFiles(Carrying, Looking, Changes):
    """One user's files on one cluster."""
