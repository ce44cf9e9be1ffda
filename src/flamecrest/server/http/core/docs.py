"""The API's front page and documentation pages. They load nothing from other hosts, so they work in closed networks."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from flamecrest.server.http.access.address import metadata_url, public_url
from flamecrest.server.http.headers.accept import acceptable

from .responses import PAGE, JsonResponse, add_response_headers

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

_KINDS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
}
_FOLDER: Final = Path(str(files("fastapi_offline") / "static"))
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src blob:; connect-src {connect}; "
    "base-uri 'none'; object-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
# Issuers know many ways to get a token; a person in a browser needs one of them, and has no secret for the others.
_PRESETS: Final = "presets: ["
_ONE_FLOW: Final = """plugins: [{statePlugins: {auth: {wrapSelectors: {definitionsToAuthorize: shown => (_, ...rest) =>
        shown(...rest)?.filter(one => !one.some(
            form => form.get("openIdConnectUrl") && form.get("flow") !== "authorization_code")),
    }}}}],
    """
REDIRECT: Final = "/docs/oauth2-redirect"
_ICON: Final = "data:,"  # none
_FRONT: Final = ("application/json", "text/html")


async def front(request: Request) -> Response:
    """What this is: for programs as JSON, for browsers the page `/docs`. Needs no token."""
    add_response_headers(request.scope, (b"vary", b"Accept"))
    if acceptable(request.headers.get("accept"), _FRONT, {})[:1] == ["text/html"]:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")
    base, app = public_url(request), request.app
    shown = {
        "name": app.title,
        "description": app.summary,
        "documentation": f"{base}/docs",
        "openapi": f"{base}/openapi.json",
        "authorization": metadata_url(request),
    }
    if app.openapi_external_docs is not None:
        shown["guide"] = app.openapi_external_docs["url"]
    return JsonResponse(shown)


async def swagger(request: Request) -> Response:
    """Swagger UI."""
    app: FastAPI = request.app
    prefix = request.scope.get("root_path", "")
    page = get_swagger_ui_html(
        openapi_url=f"{prefix}/openapi.json",
        title=app.title,
        swagger_js_url=f"{prefix}/docs/swagger-ui-bundle.js",
        swagger_css_url=f"{prefix}/docs/swagger-ui.css",
        swagger_favicon_url=_ICON,
        oauth2_redirect_url=f"{prefix}{REDIRECT}",
        init_oauth=app.swagger_ui_init_oauth,
    )
    text = bytes(page.body).decode().replace(_PRESETS, _ONE_FLOW + _PRESETS, 1)
    return _sealed(request, HTMLResponse(text))


async def redoc(request: Request) -> Response:
    """ReDoc."""
    app: FastAPI = request.app
    prefix = request.scope.get("root_path", "")
    return _sealed(
        request,
        get_redoc_html(
            openapi_url=f"{prefix}/openapi.json",
            title=app.title,
            redoc_js_url=f"{prefix}/docs/redoc.standalone.js",
            redoc_favicon_url=_ICON,
            with_google_fonts=False,
        ),
    )


def _sealed(request: Request, page: Response) -> Response:
    request.scope[PAGE] = True
    connect = " ".join(("'self'", *_issuers(request.app)))
    page.headers.update({name: value.replace("{connect}", connect) for name, value in _HEADERS.items()})
    return page


def _issuers(app: Any) -> list[str]:
    """The origins that Swagger UI asks for tokens: those of all addresses in the OAuth 2.0 security scheme."""
    scheme = app.oauth2 or {}
    urls = [scheme["openIdConnectUrl"]] if "openIdConnectUrl" in scheme else []
    urls += [flow["tokenUrl"] for flow in scheme.get("flows", {}).values()]
    parts = [urlsplit(url) for url in urls]
    return sorted({f"{one.scheme}://{one.netloc}" for one in parts})


async def redirect(request: Request) -> Response:
    """The page that an issuer sends the browser back to after a login; it hands the code to Swagger UI."""
    return _sealed(request, get_swagger_ui_oauth2_redirect_html())


async def asset(request: Request) -> Response:
    """A script or style sheet of the pages."""
    name = request.path_params["name"]
    if name not in _KINDS:
        raise HTTPException(404)
    return FileResponse(_FOLDER / name, headers={"Cache-Control": "max-age=86400"}, media_type=_KINDS[name])


routes: Final = [
    Route("/", front),
    Route("/docs", swagger),
    Route("/redoc", redoc),
    Route(REDIRECT, redirect),
    Route("/docs/{name}", asset),
]
