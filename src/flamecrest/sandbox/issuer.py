"""An OpenID Connect issuer on loopback: discovery, keys, introspection, and tokens for client credentials.

It is for tests and the demo: it signs any claims.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, unquote_plus

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from starlette.requests import Request

_MAX_FORM = 64 * 1024  # bytes
_STOP_TIMEOUT = 5.0  # seconds
_CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair with its key id and its signature algorithm."""

    kid: str
    algorithm: str
    private: Any = field(repr=False)

    @classmethod
    def generate(cls, algorithm: str = "RS256", kid: str | None = None) -> SigningKey:
        """Generate a key for RS*, PS*, ES* or EdDSA."""
        kid = kid or secrets.token_hex(4)
        if algorithm in _CURVES:
            return cls(kid, algorithm, ec.generate_private_key(_CURVES[algorithm]))
        if algorithm == "EdDSA":
            return cls(kid, algorithm, ed25519.Ed25519PrivateKey.generate())
        return cls(kid, algorithm, rsa.generate_private_key(public_exponent=65537, key_size=2048))

    def jwk(self) -> dict[str, Any]:
        """The public key as a JSON Web Key."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        public = algorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def sign(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
        """Sign a compact JWS with exactly this header and these claims."""
        text = f"{_encoded(header)}.{_encoded(claims)}"
        signature = jwt.get_algorithm_by_name(self.algorithm).sign(text.encode(), self.private)
        return f"{text}.{_base64url(signature)}"


class Issuer:
    """An issuer that listens on `host` from start to stop, or while it is entered; port 0 takes a free one.

    `clients` maps the id of a client to its secret and the user that it acts for. `keys` are published, and the last
    of them signs; without any, a key for `algorithm` is generated. Tokens are valid for `ttl` seconds by `clock`.
    """

    def __init__(
        self,
        clients: Mapping[str, tuple[str, str]] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ttl: float = 300.0,
        audience: str = "flamecrest",
        algorithm: str = "RS256",
        keys: Iterable[SigningKey] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clients = dict(clients or {})
        self.ttl = ttl
        self.audience = audience
        self.keys = list(keys) or [SigningKey.generate(algorithm)]
        self._opaque: dict[str, dict[str, Any]] = {}  # the claims of opaque tokens
        self._revoked: set[str] = set()
        self._host, self._port = host, port
        self._clock = clock
        self._server: uvicorn.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """The issuer identifier, which is the `iss` claim of its tokens. The port is known after start()."""
        return f"http://{self._host}:{self._port}"

    @property
    def jwks_url(self) -> str:
        """The address of its public keys."""
        return f"{self.url}/jwks"

    @property
    def token_url(self) -> str:
        """The address of its token endpoint."""
        return f"{self.url}/token"

    async def start(self) -> None:
        """Listen; after a stop(), on the same port as before."""
        if self._server is not None:
            return
        # asyncio disables Nagle's algorithm (40 ms a request) only if the socket has an explicit protocol
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._port))
        except OSError:
            listener.close()
            raise
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(self._app(), lifespan="off", ws="none", log_config=None, access_log=False)
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(sockets=[listener])  # not serve(), which installs signal handlers

    async def stop(self) -> None:
        """Close all connections and stop listening. Keys and port are kept."""
        if self._server is None:
            return
        server, self._server = self._server, None
        for listener in server.servers:
            listener.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT):
                while server.server_state.connections or server.server_state.tasks:
                    for connection in list(server.server_state.connections):
                        connection.shutdown()
                    await asyncio.sleep(0.002)  # server.shutdown() takes a tenth of a second

    def claims(self, username: str, client_id: str = "sandbox", scope: str = "openid") -> dict[str, Any]:
        """The claims of a new access token for a user."""
        now = int(self._clock())
        return {
            "iss": self.url,
            "sub": f"sandbox:{username}",
            "aud": self.audience,
            "exp": int(now + self.ttl),
            "iat": now,
            "jti": secrets.token_hex(8),
            "client_id": client_id,
            "azp": client_id,
            "preferred_username": username,
            "scope": scope,
        }

    def mint(
        self,
        username: str,
        *,
        expires: float | None = None,
        key: SigningKey | None = None,
        headers: Mapping[str, Any] | None = None,
        omit: Collection[str] = (),
        **claims: Any,
    ) -> str:
        """Sign an access token for a user, or a modified one.

        `expires` is the number of seconds from now to its expiry. `headers` and `claims` replace the issuer's own.
        A header that is None and the claims in `omit` are left out.
        """
        key = key or self.keys[-1]
        given = {"alg": key.algorithm, "typ": "at+jwt", "kid": key.kid, **(headers or {})}
        header = {name: value for name, value in given.items() if value is not None}
        payload = self.claims(username) | ({} if expires is None else {"exp": self._clock() + expires}) | claims
        return key.sign(header, {name: value for name, value in payload.items() if name not in omit})

    def mint_opaque(self, username: str, **claims: Any) -> str:
        """Issue a token whose claims only introspection says."""
        token = secrets.token_urlsafe(24)
        self._opaque[token] = self.claims(username) | {"token_type": "Bearer"} | claims
        return token

    def revoke(self, token: str) -> None:
        """Declare a token inactive."""
        self._revoked.add(token)

    async def intercept(self, document: str) -> Response | None:  # noqa: ARG002 - for subclasses
        """A response to send instead of the regular one for `discovery`, `jwks`, `token` or `introspect`, if any."""
        return None

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._answer("discovery", self._discovery)),
                Route("/jwks", self._answer("jwks", self._jwks)),
                Route("/token", self._answer("token", self._token), methods=["POST"]),
                Route("/introspect", self._answer("introspect", self._introspect), methods=["POST"]),
            ]
        )

    def _answer(self, document: str, make: Callable[[Request, bytes], Response]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            form = bytearray()
            async for chunk in request.stream():
                form += chunk
                if len(form) > _MAX_FORM:
                    return _refusal("invalid_request", "the form is too large", 413)
            return await self.intercept(document) or make(request, bytes(form))

        return endpoint

    def _discovery(self, _: Request, __: bytes) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "jwks_uri": self.jwks_url,
                "token_endpoint": self.token_url,
                "introspection_endpoint": f"{self.url}/introspect",
                "grant_types_supported": ["client_credentials"],
                "response_types_supported": [],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": sorted({key.algorithm for key in self.keys}),
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            }
        )

    def _jwks(self, _: Request, __: bytes) -> Response:
        return JSONResponse({"keys": [key.jwk() for key in self.keys]})

    def _token(self, request: Request, body: bytes) -> Response:
        """The token endpoint, RFC 6749, sections 4.4 and 5."""
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
            return _refusal("invalid_request", "the body must be a form")
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=50)
        except ValueError:
            return _refusal("invalid_request", "the form is malformed")
        form = dict(pairs)
        if len(form) != len(pairs):
            return _refusal("invalid_request", "a parameter stands twice")
        basic = request.headers.get("authorization")
        if basic is not None and "client_secret" in form:
            return _refusal("invalid_request", "the client authenticates in two ways")
        client_id = self._client(basic, form)
        if client_id is None:
            return _refusal("invalid_client", "unknown client or wrong secret", 401, basic=basic is not None)
        username = self.clients[client_id][1]
        if "grant_type" not in form:
            return _refusal("invalid_request", "grant_type is missing")
        if form["grant_type"] != "client_credentials":
            return _refusal("unsupported_grant_type", "only client_credentials")
        scope = form.get("scope", "openid")
        key = self.keys[-1]
        header = {"alg": key.algorithm, "typ": "at+jwt", "kid": key.kid}
        token = key.sign(header, self.claims(username, client_id, scope))
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": int(self.ttl), "scope": scope}
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    def _client(self, basic: str | None, form: Mapping[str, str]) -> str | None:
        """The id of the client that has authenticated, by HTTP Basic or in the form; None if there is none."""
        client_id, secret = _basic(basic) if basic else (form.get("client_id", ""), form.get("client_secret", ""))
        known = self.clients.get(client_id, ("", ""))[0]
        return client_id if known and secrets.compare_digest(known.encode(), secret.encode()) else None

    def _introspect(self, request: Request, body: bytes) -> Response:
        """The introspection endpoint, RFC 7662."""
        form = dict(parse_qsl(body.decode("latin-1")))
        if self._client(request.headers.get("authorization"), form) is None:
            return _refusal("invalid_client", "unknown client or wrong secret", 401)
        token = form.get("token", "")
        claims = self._opaque.get(token)
        if claims is None:
            with contextlib.suppress(jwt.PyJWTError, StopIteration):
                kid = jwt.get_unverified_header(token).get("kid")
                key = next(key for key in self.keys if key.kid == kid)
                claims = jwt.decode(token, key.private.public_key(), [key.algorithm], options={"verify_aud": False})
        if claims is None or token in self._revoked or claims["exp"] <= self._clock():
            return JSONResponse({"active": False})
        return JSONResponse({"active": True, "token_type": "Bearer", **claims})

    def __repr__(self) -> str:
        state = "listening" if self._server else "stopped"
        return f"<Issuer {self.url} {state}, keys {[key.kid for key in self.keys]}>"


def _basic(authorization: str) -> tuple[str, str]:
    """The client's id and secret in a Basic header; empty strings if it has none."""
    scheme, _, value = authorization.partition(" ")
    try:
        pair = base64.b64decode(value, validate=True).decode() if scheme.lower() == "basic" else ""
    except ValueError:
        pair = ""
    client_id, _, secret = pair.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)


def _refusal(error: str, description: str, status: int = 400, *, basic: bool = False) -> Response:
    headers = {"Cache-Control": "no-store"} | ({"WWW-Authenticate": 'Basic realm="token"'} if basic else {})
    return JSONResponse({"error": error, "error_description": description}, status, headers=headers)


def _encoded(value: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
