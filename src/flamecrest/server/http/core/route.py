"""GatewayRoute: in which order a request is looked at: who calls, on which cluster, with which parameters.

It knows no operation. What may be done is asked when the handler asks for a port (see deps.py), so that a request
that can't be understood is told so first.
"""

from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from .call import Call
from .parameters import Parameters


class GatewayRoute(APIRoute):
    """A route that nobody gets past without a token. The framework describes it; it is served from here."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._parameters = Parameters(self.endpoint, set(self.param_convertors))
        self.app = self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive)
        await call.begin()
        response = await self.endpoint(call, **await self._parameters.read(call))
        await response(scope, receive, send)


class OpenRoute(APIRoute):
    """A route for everybody, without parameters."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.app = self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.endpoint(Request(scope, receive))
        await response(scope, receive, send)
