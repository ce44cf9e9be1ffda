"""The API's documentation pages. They load nothing from other hosts, so they work in closed networks."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.routing import Route

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
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src blob:",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_ICON: Final = "data:,"  # none


async def swagger(request: Request) -> Response:
    """Swagger UI."""
    app: FastAPI = request.app
    prefix = request.scope.get("root_path", "")
    return _sealed(
        get_swagger_ui_html(
            openapi_url=f"{prefix}/openapi.json",
            title=app.title,
            swagger_js_url=f"{prefix}/docs/swagger-ui-bundle.js",
            swagger_css_url=f"{prefix}/docs/swagger-ui.css",
            swagger_favicon_url=_ICON,
        )
    )


async def redoc(request: Request) -> Response:
    """ReDoc."""
    app: FastAPI = request.app
    prefix = request.scope.get("root_path", "")
    return _sealed(
        get_redoc_html(
            openapi_url=f"{prefix}/openapi.json",
            title=app.title,
            redoc_js_url=f"{prefix}/docs/redoc.standalone.js",
            redoc_favicon_url=_ICON,
            with_google_fonts=False,
        )
    )


def _sealed(page: Response) -> Response:
    page.headers.update(_HEADERS)
    return page


async def asset(request: Request) -> Response:
    """A script or style sheet of the pages."""
    name = request.path_params["name"]
    if name not in _KINDS:
        raise HTTPException(404)
    return FileResponse(_FOLDER / name, headers={"Cache-Control": "max-age=86400"}, media_type=_KINDS[name])


routes: Final = [Route("/docs", swagger), Route("/redoc", redoc), Route("/docs/{name}", asset)]
