"""Reads the configuration again while the server runs: when its files have changed, or on SIGHUP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flamecrest.server.settings import SettingsError
from flamecrest.server.settings.changes import Changes

from .certificate import Version, version_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from flamecrest.server.http.edge.application import Edge
    from flamecrest.server.settings import Settings

LOOK_SECONDS: Final = 5.0  # between two looks at the files
_FOLDER: Final = re.compile(r"path:([^\s'\"]+)")  # of the files of clusters

log = logging.getLogger("flamecrest.serve")


async def reload_configuration(
    app: Edge, file: Path, read: Callable[[], Settings], asked: asyncio.Event, *, look_seconds: float = LOOK_SECONDS
) -> None:
    """Run until it is cancelled: use the clusters of the configuration when `asked` is set, and when it has changed.

    A configuration that is not usable is logged, and the one before stays in use.
    """
    used = _version(file)  # not in a thread, which may look only after the next change
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(look_seconds):
                await asked.wait()
        found = await asyncio.to_thread(_version, file)
        if found == used and not asked.is_set():
            continue
        asked.clear()
        used = found
        try:
            await _use(app, await asyncio.to_thread(read))
        except SettingsError as error:
            problems = "; ".join(map(str, error.problems))
            log.error("the configuration is not usable, the one before stays in use: %s", problems)  # noqa: TRY400
        except Exception:
            log.exception("the configuration is not usable, the one before stays in use")


async def _use(app: Edge, settings: Settings) -> None:
    reload = app.gateway.reload
    if reload is None:
        return
    found = await reload(settings, app.requests_ended)
    if not isinstance(found, Changes):
        raise TypeError(found)
    changes = {name: list(getattr(found, name)) for name in ("added", "changed", "removed") if getattr(found, name)}
    log.info("configuration read again", extra={"fields": {"clusters": changes or "unchanged"}})
    if found.ignored:
        log.warning("restart to use the changed settings: %s", ", ".join(found.ignored))


def _version(file: Path) -> Version:
    """What changes when the files of the configuration are replaced or written."""
    files = [file]
    with contextlib.suppress(OSError, UnicodeError):
        for folder in _FOLDER.findall(file.read_text()):
            files += sorted((file.parent / folder).iterdir())
    return version_of(tuple(map(str, files)))
