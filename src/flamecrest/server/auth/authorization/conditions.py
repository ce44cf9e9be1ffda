"""Conditions of rules in the Common Expression Language (https://cel.dev), by Google's own implementation.

A condition is type-checked when it is compiled. Claims are of any type, everything else has one: see VARIABLES.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cel_expr_python.cel import Env, Expression

    from flamecrest.server.auth.port import Identity

VARIABLES: Final = {
    "user": "STRING",  # the account on the clusters
    "subject": "STRING",
    "issuer": "STRING",
    "client": "STRING",
    "claims": "MAP",
    "verb": "STRING",
    "cluster": "STRING",
}
"""Variables that are the same for all requests of a token with one verb on one cluster."""
OF_TOKEN: Final = {name: kind for name, kind in VARIABLES.items() if name not in {"verb", "cluster"}}
"""Of these, the ones that are the same for all requests of a token."""
OF_REQUEST: Final = {"path": "STRING", "job": "STRING", "now": "TIMESTAMP"}
"""Variables that differ from request to request. `path` and `job` are "" for a request that names none."""
MAX_EXPRESSION: Final = 4096  # characters
_LARGEST: Final = 2**63 - 1  # an integer of CEL
_DEEPEST: Final = 32  # levels of a claim


class Condition:
    """A compiled condition. `per_request`: whether it depends on the path, the job or the time.

    With `of_token` it may use the variables of OF_TOKEN only. Raises ValueError for an expression that is not valid or
    whose result is no boolean, and RuntimeError if the library is missing.
    """

    def __init__(self, text: str, *, of_token: bool = False) -> None:
        if len(text) > MAX_EXPRESSION:
            raise ValueError(f"a condition has at most {MAX_EXPRESSION} characters")
        self.text = text
        self.per_request = False
        if of_token:
            self._expression = _compiled(text, _environment(tuple(OF_TOKEN)))
        else:
            self._compile(text)
        kind = self._expression.return_type().name()
        if kind.upper() not in {"BOOL", "DYN"}:
            raise ValueError(f"the condition is of type {kind}, not bool")

    def _compile(self, text: str) -> None:
        try:
            self._expression = _environment(tuple(VARIABLES)).compile(text)
        except RuntimeError:  # not valid, or it depends on the request
            self.per_request = True
            self._expression = _compiled(text, _environment((*VARIABLES, *OF_REQUEST)))

    def holds(self, values: Mapping[str, Any]) -> bool | None:
        """Whether the condition holds for these variables; None if it cannot be evaluated.

        That is so if a claim is missing that it uses without `has(claims.x)`, or is of another type.
        """
        try:
            value = self._expression.eval(data=values).value()
        except (RuntimeError, TypeError, ValueError, OverflowError):
            return None
        return value if isinstance(value, bool) else None


def token_variables(identity: Identity) -> dict[str, Any]:
    """The variables of OF_TOKEN for a caller."""
    return {
        "user": identity.username,
        "subject": identity.subject,
        "issuer": identity.issuer,
        "client": identity.client,
        "claims": usable(dict(identity.claims)),
    }


def usable(value: Any, levels: int = _DEEPEST) -> Any:
    """A claim as CEL can hold it: an integer beyond 64 bits is a floating-point number, what is too deep is null."""
    match value:
        case bool() | str() | float() | None:
            return value
        case int():
            return value if -_LARGEST <= value <= _LARGEST else _floating(value)
        case dict() | list() if not levels:
            return None
        case dict():
            return {name: usable(item, levels - 1) for name, item in value.items()}
        case list():
            return [usable(item, levels - 1) for item in value]
        case _:
            return str(value)


def _floating(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


@cache
def _environment(names: tuple[str, ...]) -> Env:
    try:
        from cel_expr_python import cel  # noqa: PLC0415 - 50 MB, and 30 ms that only conditions need
    except ImportError:
        raise RuntimeError("conditions need the package cel-expr-python: pip install 'flamecrest[cel]'") from None
    known = {**VARIABLES, **OF_REQUEST}
    kinds = {name: getattr(cel.Type, known[name]) for name in names}
    kinds["claims"] = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    return cel.NewEnv(variables=kinds)


def _compiled(text: str, environment: Env) -> Expression:
    try:
        return environment.compile(text)
    except RuntimeError as error:
        message = str(error).removeprefix("INVALID_ARGUMENT: ").removesuffix("[INVALID_ARGUMENT]").strip()
        raise ValueError(f"the condition is not valid CEL: {message}") from None
