"""The Files port over SSH: SFTP for everything it can do, commands only for what the cluster itself computes."""

from __future__ import annotations

from flamecrest.server.files.remote.changes import RemoteChanges
from flamecrest.server.files.remote.content import RemoteContent
from flamecrest.server.files.remote.queries import RemoteQueries


class RemoteFiles(RemoteContent, RemoteQueries, RemoteChanges):
    """One user's files on one cluster."""
