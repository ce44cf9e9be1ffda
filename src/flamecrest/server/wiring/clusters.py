"""The open clusters of a gateway, and how they change while it runs. It does not know how a cluster is opened."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from flamecrest.server.settings import Settings
from flamecrest.server.settings.changes import Changes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AsyncExitStack

    from flamecrest.server.cluster import Cluster
    from flamecrest.server.settings import ClusterSettings
    from flamecrest.server.telemetry.counters import Counters

    from .stores import Background

RELOADED: Final = frozenset({"clusters", "ssh_credentials", "data_operation", "storage"})  # at the root

_log: Final = logging.getLogger("flamecrest.serve")


@dataclass(frozen=True, slots=True, eq=False)
class OpenCluster:
    """A cluster with its connections. `made_of` are the settings that it depends on.

    longest: seconds that a request on it may last, at most.
    """

    made: Cluster
    made_of: tuple[Any, ...]
    longest: float
    counters: Counters
    connections: AsyncExitStack
    probes: AsyncExitStack


class Opener(Protocol):
    """Opens clusters."""

    @property
    def background(self) -> Background:
        """The work that no request waits for."""
        ...

    async def open(self, settings: Settings, cluster: ClusterSettings) -> OpenCluster:
        """Open a cluster. Raises SettingsError."""
        ...


def made_of(settings: Settings, cluster: ClusterSettings) -> tuple[Any, ...]:
    """What a cluster depends on."""
    credentials = settings.credentials(cluster)
    return (cluster, credentials, settings.operations(cluster), settings.transfers)


class Clusters:
    """The clusters, by name in lower case. `by_name` changes at one moment; requests keep the cluster that they have.

    A cluster that was removed or changed is closed when the requests and transfers that may use it have ended.
    """

    def __init__(self, opener: Opener, counters: Counters) -> None:
        self.by_name: dict[str, Cluster] = {}
        self._opener = opener
        self._counters = counters
        self._open: dict[str, OpenCluster] = {}
        self._settings: Settings | None = None
        self._retired: dict[OpenCluster, asyncio.Task[None]] = {}

    async def change(self, settings: Settings, ended: Callable[[], Awaitable[object]] | None = None) -> Changes:
        """Open new and changed clusters, then use them, and retire the others. Raises SettingsError: nothing changed.

        `ended` returns when the requests have ended that are open at its call.
        """
        before = self._settings or settings
        kept = settings.model_copy(
            update={name: getattr(before, name) for name in set(Settings.model_fields) - RELOADED}
        )
        wanted = {one.name.lower(): one for one in settings.clusters}
        fresh: dict[str, OpenCluster] = {}
        try:
            for name, one in wanted.items():
                found = self._open.get(name)
                if found is None or found.made_of != made_of(kept, one):
                    fresh[name] = await self._opener.open(kept, one)
        except BaseException:
            for opened in fresh.values():
                await opened.connections.aclose()
            raise
        added = [name for name in fresh if name not in self._open]
        gone = {name: one for name, one in self._open.items() if name not in wanted or name in fresh}
        self._open = {name: fresh.get(name) or self._open[name] for name in wanted}
        self.by_name.clear()
        self.by_name.update({name: one.made for name, one in self._open.items()})
        self._counters.parts.clear()
        self._counters.parts.update({name: one.counters for name, one in self._open.items()})
        self._settings = kept
        for old in gone.values():
            await old.probes.aclose()
            self._retired[old] = asyncio.create_task(self._retire(old, ended))
        return Changes(
            added=tuple(added),
            changed=tuple(name for name in fresh if name in gone),
            removed=tuple(name for name in gone if name not in wanted),
            ignored=tuple(name for name in Settings.model_fields if getattr(settings, name) != getattr(kept, name)),
        )

    async def close(self) -> None:
        """Close all clusters, those as well that wait for their last request."""
        for task in self._retired.values():
            task.cancel()
        await asyncio.gather(*self._retired.values(), return_exceptions=True)
        for one in (*self._open.values(), *self._retired):
            await one.connections.aclose()

    async def _retire(self, one: OpenCluster, ended: Callable[[], Awaitable[object]] | None) -> None:
        """Close a cluster when nothing uses it any more."""
        try:
            async with asyncio.timeout(one.longest):
                if ended is not None:
                    await ended()
                if running := self._opener.background.tasks():
                    await asyncio.wait(running)
        except TimeoutError:
            _log.warning("%s is closed while requests still use it", one.made.name)
        del self._retired[one]
        await one.connections.aclose()
