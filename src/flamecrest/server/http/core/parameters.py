"""Reads the parameters that a handler's signature declares from path, query and JSON body of a request.

FastAPI reads the same signatures to describe the API, but not the requests: it would read a body before the caller is
authenticated, lose the bytes of a path that are not UTF-8, and take half of a request's time. Also holds the
parameters that several handlers share.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import unquote_to_bytes

import orjson
from fastapi import Path, Query, params
from fastapi.dependencies.models import Dependant
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo
from starlette.requests import Request

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Field, GatewayError, Invalid, TooLarge
from flamecrest.wire.text import Word, check_name

from .errors import validation_failure
from .request_body import RequestBody, check_values, declared_length
from .user_memory import SMALL

JSON_LIMIT: Final = 1024 * 1024  # bytes of a JSON body; `body_limit` changes it for a handler
BYTES_PER_VALUE: Final = 32  # of the size that a JSON body may have: it has at most so many values and names
MIN_VALUES: Final = 100_000  # that every JSON body may have
LARGE: Final = 64 * 1024  # bytes of a JSON body that is decoded in a turn of its user's
QueryPath = Annotated[
    str,
    AfterValidator(check_name),
    Query(description="Absolute path; bytes that are not UTF-8 are percent-encoded as they are"),
]
JobId = Annotated[
    str,
    Path(
        description="Job id, as the scheduler writes it: `123`, `123_4`, `123[1-5]`, `123.server`",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-\[\],%+]{0,127}$",
    ),
]
AccountName = Annotated[Word | None, Query(description="Account")]

_SHORT_TEXT: Final = re.compile(r"[^\0]{0,1000}")  # at most 4000 bytes
_BOOLEANS: Final = {"true": True, "false": False}  # the spellings that clients use; pydantic accepts more

Handler = TypeVar("Handler", bound=Callable[..., Any])


def body_limit(size: int) -> Callable[[Handler], Handler]:
    """Decorator of a handler: accept JSON bodies of up to `size` bytes."""

    def mark(handler: Handler) -> Handler:
        handler.body_limit = size  # type: ignore[attr-defined]
        return handler

    return mark


class Parameters:
    """The parameters of one handler, as FastAPI classifies and documents them.

    Raises TypeError, when the route is made, for a parameter that is neither in the path nor in the query and is not
    the one JSON body (a model): headers, cookies, forms and dependencies are not read. Nor are lists and models in the
    query: each of its parameters has one value.
    """

    def __init__(self, handler: Callable[..., Any], documented: Dependant) -> None:
        body = _check_locations(handler, documented)
        hints = get_type_hints(handler, include_extras=True)
        signature = inspect.signature(handler).parameters

        def model(title: str, found: Sequence[Any]) -> type[BaseModel] | None:
            defaults = {one.name: signature[one.name].default for one in found}
            empty = inspect.Parameter.empty
            fields: dict[str, Any] = {
                name: (hints[name], ... if default is empty else default) for name, default in defaults.items()
            }
            return create_model(title, __config__=ConfigDict(extra="ignore"), **fields) if fields else None

        self._limit: int = getattr(handler, "body_limit", JSON_LIMIT)
        self._most_values = max(MIN_VALUES, self._limit // BYTES_PER_VALUE)
        self._body = None if body is None else (body, hints[body])
        self._path = model("Path", documented.path_params)
        self._query = model("Query", documented.query_params)
        known = self._query.model_fields if self._query is not None else {}
        self._simple = SimpleQuery(known)
        self._names = {(info.alias or name).encode(): info.alias or name for name, info in known.items()}
        # the values of a request without a query string; None if it must be read all the same
        self.without_query = self._simple.read({}) if self._body is None and self._path is None else None

    async def read(self, request: Request, deadline: Deadline) -> dict[str, Any]:
        """The values by the names of the handler's parameters. Raises Invalid, TooLarge, Timeout, Busy."""
        values: dict[str, Any] = {}
        location = "path"
        try:
            if self._path is not None:
                values |= self._path.model_validate(request.scope["path_params"]).__dict__
            location = "query"
            if self._query is not None:
                given = self._decode(request.scope["query_string"])
                values |= self._simple.read(given) or self._query.model_validate(given).__dict__
            location = "body"
            if self._body is not None:
                name, model = self._body
                data = await _read_json(request, self._limit, deadline)
                if len(data) <= LARGE:
                    values[name] = model.model_validate(orjson.loads(data))
                else:
                    async with request.scope["app"].users.turn(request.scope):
                        check_values(data, self._most_values)
                        values[name] = model.model_validate(orjson.loads(data))
        except orjson.JSONDecodeError as error:
            raise _invalid(Invalid, "body", "body", _not_json(request, error)) from None
        except ValidationError as error:
            checked = self._body[1] if self._body is not None and location == "body" else None
            raise validation_failure(location, error, checked) from None
        return values

    def _decode(self, query: bytes) -> Mapping[str, str]:
        """The known parameters of a query; bytes that are not UTF-8 become lone surrogates."""
        given: dict[str, str] = {}
        for pair in query.split(b"&") if query else ():
            raw, _, value = pair.partition(b"=")
            name = self._names.get(raw) or self._names.get(unquote_to_bytes(raw.replace(b"+", b" ")))
            if name is None:
                continue
            if name in given:  # ambiguous: programs differ in which one they take
                raise _invalid(Invalid, "query", name, "must be given once only")
            if b"%" in value or b"+" in value:
                value = unquote_to_bytes(value.replace(b"+", b" "))
            given[name] = value.decode("utf-8", "surrogateescape")
        return given


class SimpleQuery:
    """Reads queries whose parameters are texts and booleans, without pydantic; leaves all others to it.

    Validating the whole model costs several times as much. pydantic also makes the messages for invalid values.
    """

    def __init__(self, fields: Mapping[str, FieldInfo]) -> None:
        self._names: dict[str, tuple[str, bool]] = {}  # by alias; whether it is a boolean
        self._defaults = {name: info.get_default() for name, info in fields.items() if not info.is_required()}
        self._required = [name for name, info in fields.items() if info.is_required()]
        for name, info in fields.items():
            if info.annotation is bool and not info.metadata:
                self._names[info.alias or name] = name, True
            elif info.annotation is str and all(map(_accepts_short_text, info.metadata)):
                self._names[info.alias or name] = name, False

    def read(self, given: Mapping[str, str]) -> dict[str, Any] | None:
        """The values by the names of the handler's parameters; None if pydantic must read this query."""
        values: dict[str, Any] = self._defaults.copy()
        try:
            for alias, text in given.items():
                name, is_boolean = self._names[alias]
                if is_boolean:
                    values[name] = _BOOLEANS[text]
                elif _SHORT_TEXT.fullmatch(text):
                    values[name] = text
                else:
                    return None
        except KeyError:
            return None
        for name in self._required:
            if name not in values:
                return None
        return values


def _accepts_short_text(check: object) -> bool:
    """Whether a check leaves every _SHORT_TEXT unchanged; that of paths refuses NUL and more than 4096 bytes."""
    return isinstance(check, AfterValidator) and check.func is check_name


def _check_locations(handler: Callable[..., Any], documented: Dependant) -> str | None:
    """Return the name of the JSON body. Raises TypeError if a parameter is documented but would not be read."""
    hints = get_type_hints(handler)
    body = None
    for one in documented.body_params:
        info = one.field_info
        if body is None and type(info) is params.Body and not info.embed and _is_model(hints[one.name]):
            body = one.name
    read = {one.name for one in (*documented.path_params, *documented.query_params) if _has_one_value(hints[one.name])}
    if documented.request_param_name is None:
        raise TypeError(f"{handler.__qualname__}: the parameter `call` of type Call is missing")
    for name in inspect.signature(handler).parameters:
        if name not in read | {body, documented.request_param_name}:
            rule = "only single values in path and query and one JSON body (a model) are read"
            raise TypeError(f"{handler.__qualname__}: the parameter `{name}` cannot be read: {rule}")
    return body


def _has_one_value(hint: Any) -> bool:
    """Whether one text of a query or a path can be a value of the type."""
    kind = get_origin(hint) or hint
    if kind in {Union, UnionType}:
        return all(map(_has_one_value, get_args(hint)))
    return not inspect.isclass(kind) or not issubclass(kind, (BaseModel, list, tuple, set, frozenset, dict))


def _is_model(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, BaseModel)


def _invalid(kind: type[GatewayError], location: str, name: str, message: str) -> GatewayError:
    return kind(f"`{name}` {message}", fields=(Field(location, name, message),))


def _not_json(request: Request, error: orjson.JSONDecodeError) -> str:
    if request.headers.get("content-encoding", "").strip().lower() not in {"", "identity"}:
        return "must be plain JSON: a body with a Content-Encoding is not decoded"
    return f"is not JSON: {error}"


async def _read_json(request: Request, limit: int, deadline: Deadline) -> bytearray:
    """The bytes of the JSON body: at most `limit`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise _invalid(Invalid, "header", "content-type", "must be application/json")
    too_large = partial(_invalid, TooLarge, "body", "body", f"must not be larger than {limit} bytes")
    if declared_length(request.headers) > limit:
        raise too_large()
    body = RequestBody(request, timeout=None, limit=limit, too_large=too_large)
    data = bytearray()
    async with deadline.enforce("Receiving the request"):
        while (chunk := await body.next_chunk()) is not None:
            data += chunk
            if len(data) > SMALL:
                request.scope["app"].users.memory.hold(request.scope, len(data))
    return data
