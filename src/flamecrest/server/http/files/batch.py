"""Runs one operation on many paths. Each path has its own result; results are in the order of the paths."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic_core import PydanticCustomError
from starlette.responses import Response

from flamecrest.server.errors import GatewayError, Invalid
from flamecrest.server.http.core.errors import status_of
from flamecrest.wire.bulk import BulkItem
from flamecrest.wire.json import dumps
from flamecrest.wire.text import check_name, percent_decode

from .archive import path_fields

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Verb
    from flamecrest.server.files.port import Files
    from flamecrest.server.http.core.route import Call

Item = TypeVar("Item", bound=BulkItem)

CONCURRENCY: Final = 128  # items at the same time

Operation = Callable[["Files", str, Item], Awaitable[Any]]


async def run_batch(
    call: Call,
    verb: Verb,
    items: Sequence[Item],
    operation: Operation[Item],
    *,
    status: int = 200,
    order: int = 0,
    tree: bool = False,
) -> Response:
    """Run the operation on every item whose path the caller may use; with `tree` also what lies below it.

    `order` 1 runs paths with fewer components first (parents before children), -1 last; paths with equally many
    components run at the same time. An error of one item is its result: status and message.
    """
    allowed = await call.allow_each(verb, items[0].path)
    results: list[dict[str, Any]] = [{}] * len(items)

    async def one(at: int) -> None:
        item = items[at]
        results[at] = {"path": item.path, "encoding": item.encoding}
        try:
            path = _read(item)
            results[at] = path_fields(path)
            files = (await allowed.also(call.deadline, path, tree=tree)).files(path=path)
            output = await operation(files, path, item)
            results[at] |= {"status": status, "output": output}
        except GatewayError as error:
            results[at] |= {"status": status_of(error), "message": error.public}

    groups: dict[int, list[int]] = {}
    for at, item in enumerate(items):
        depth = len([part for part in item.path.split("/") if part not in {"", "."}])
        groups.setdefault(order * depth, []).append(at)
    for depth in sorted(groups):
        waiting = iter(groups[depth])

        async def worker(waiting: Any = waiting) -> None:
            for at in waiting:
                await one(at)

        async with asyncio.TaskGroup() as together:
            for _ in range(min(CONCURRENCY, len(groups[depth]))):
                together.create_task(worker())
    return Response(dumps({"results": results}), media_type="application/json")


def _read(item: BulkItem) -> str:
    try:
        text = percent_decode(item.path) if item.encoding == "percent" else item.path
        return check_name(text)
    except (PydanticCustomError, ValueError) as error:
        raise Invalid(f"`path`: {error}") from None
