"""Parameters: what a handler's signature asks for, read from a request, each part in one validation; knows no route.

The framework reads the same signatures to describe the API. It does not read the requests: it would take a body
before it is known who sent it, lose bytes of a path that are not UTF-8, and need half of a request's time.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, get_type_hints
from urllib.parse import unquote_to_bytes

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo
from starlette.requests import Request

from flamecrest.server.errors import Field, GatewayError, Invalid, TooLarge

from .call import Call
from .errors import validation_failure

JSON_LIMIT: Final = 1024 * 1024  # bytes of a JSON body, where the handler does not say otherwise

_TRUTH: Final = {"true": True, "false": False}  # as clients write it; all else that means it is pydantic's to know

Handler = TypeVar("Handler", bound=Callable[..., Any])


def body_limit(size: int) -> Callable[[Handler], Handler]:
    """Let a handler take JSON bodies of up to `size` bytes."""

    def mark(handler: Handler) -> Handler:
        handler.body_limit = size  # type: ignore[attr-defined]
        return handler

    return mark


class Parameters:
    """The parameters of one handler."""

    def __init__(self, handler: Callable[..., Any], path_names: set[str]) -> None:
        hints = get_type_hints(handler, include_extras=True)
        in_path: dict[str, Any] = {}
        in_query: dict[str, Any] = {}
        self._body: tuple[str, type[BaseModel]] | None = None
        self._limit: int = getattr(handler, "body_limit", JSON_LIMIT)
        for name, parameter in inspect.signature(handler).parameters.items():
            hint = hints[name]
            if inspect.isclass(hint) and issubclass(hint, BaseModel):
                self._body = name, hint
            elif not (inspect.isclass(hint) and issubclass(hint, Request)):
                default = ... if parameter.default is inspect.Parameter.empty else parameter.default
                (in_path if name in path_names else in_query)[name] = (hint, default)
        self._path = _model("Path", in_path)
        self._query = _model("Query", in_query)
        fields = self._query.model_fields if self._query is not None else {}
        self._plain = SimpleQuery(fields)
        self._names = {(info.alias or name).encode(): info.alias or name for name, info in fields.items()}

    async def read(self, call: Call) -> dict[str, Any]:
        """Everything the handler asks for, by its names; raises Invalid, TooLarge, Timeout."""
        values: dict[str, Any] = {}
        try:
            location = "path"
            if self._path is not None:
                values |= self._path.model_validate(call.scope["path_params"]).__dict__
            location = "query"
            if self._query is not None:
                given = self._given(call.scope["query_string"])
                values |= self._plain.read(given) or self._query.model_validate(given).__dict__
            location = "body"
            if self._body is not None:
                name, model = self._body
                values[name] = model.model_validate(await _json(call, self._limit))
        except ValidationError as error:
            raise validation_failure(location, error) from None
        return values

    def _given(self, query: bytes) -> Mapping[str, str]:
        """The known parameters in a query, byte for byte: what is not UTF-8 becomes lone surrogates."""
        given: dict[str, str] = {}
        for pair in query.split(b"&"):
            raw, _, value = pair.partition(b"=")
            name = self._names.get(raw) or self._names.get(unquote_to_bytes(raw.replace(b"+", b" ")))
            if name is None:
                continue
            if name in given:  # which of them is meant can only be guessed
                raise _refused(Invalid, "query", name, "must be given once only")
            if b"%" in value or b"+" in value:
                value = unquote_to_bytes(value.replace(b"+", b" "))
            given[name] = value.decode("utf-8", "surrogateescape")
        return given


class SimpleQuery:
    """Reads the text and the true or false that most queries are; says None where somebody else has to look.

    A validation of the whole model costs several times as much, and is the one that finds words for what is wrong.
    """

    def __init__(self, fields: Mapping[str, FieldInfo]) -> None:
        self._readers: dict[str, tuple[str, list[Callable[[Any], Any]]]] = {}
        self._defaults = {name: info.get_default() for name, info in fields.items() if not info.is_required()}
        self._required = [name for name, info in fields.items() if info.is_required()]
        for name, info in fields.items():
            checks: list[Any] = [check.func for check in info.metadata if isinstance(check, AfterValidator)]
            if info.annotation is bool and not info.metadata:
                self._readers[info.alias or name] = name, [_TRUTH.__getitem__]
            elif info.annotation is str and len(checks) == len(info.metadata) and all(map(_takes_one, checks)):
                self._readers[info.alias or name] = name, checks

    def read(self, given: Mapping[str, str]) -> dict[str, Any] | None:
        """The parameters by their names in the handler."""
        values: dict[str, Any] = self._defaults.copy()
        try:
            for alias, text in given.items():
                name, steps = self._readers[alias]
                value: Any = text
                for step in steps:
                    value = step(value)
                values[name] = value
        except (KeyError, ValueError):  # pydantic's errors are ValueErrors
            return None
        for name in self._required:
            if name not in values:
                return None
        return values


def _takes_one(check: Callable[..., Any]) -> bool:
    return len(inspect.signature(check).parameters) == 1


def _model(name: str, fields: dict[str, Any]) -> type[BaseModel] | None:
    return create_model(name, __config__=ConfigDict(extra="ignore"), **fields) if fields else None


def _refused(kind: type[GatewayError], location: str, name: str, message: str) -> GatewayError:
    return kind(f"`{name}` {message}", fields=(Field(location, name, message),))


async def _json(call: Call, limit: int) -> Any:
    """The JSON body: of limited size and depth, strict UTF-8, no NaN."""
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise _refused(Invalid, "header", "content-type", "must be application/json")
    try:
        return orjson.loads(await _limited(call, limit))
    except orjson.JSONDecodeError as error:
        raise _refused(Invalid, "body", "body", f"is not JSON: {error}") from None


async def _limited(call: Call, limit: int) -> bytes:
    message = f"must not be larger than {limit} bytes"
    declared = call.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise _refused(TooLarge, "body", "body", message)
    raw = bytearray()
    async with call.deadline.enforce("Receiving the request"):
        async for chunk in call.stream():
            raw += chunk
            if len(raw) > limit:
                raise _refused(TooLarge, "body", "body", message)
    return bytes(raw)
