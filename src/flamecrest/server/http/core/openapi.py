"""Completes the framework's OpenAPI document. Knows routes by their paths only.

The system's name, the bearer token and the form of an upload are dealt with before the framework looks at a
request, so it does not describe them.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from flamecrest.server.http.examples import add_examples
from flamecrest.wire.errors import ApiResponseError
from flamecrest.wire.filesystem import UploadForm
from flamecrest.wire.systems import ServiceAccount

BEARER: Final = "HTTPBearer"
OAUTH2: Final = "OAuth2"
_FORM: Final = "The access token alone, without the word `Bearer`."
_REF: Final = "#/components/schemas/{model}"
# As FirecREST's own framework calls it, which is what generated clients know.
_UPLOAD_FORM: Final = "Body_post_upload_filesystem__system_name__ops_upload_post"

# For every router: errors have one shape, whatever their status.
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ApiResponseError, "description": "The request was refused"},
    "5XX": {"model": ApiResponseError, "description": "The request failed"},
}
BINARY_RESPONSE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}
_SAME: Final[dict[str, Any]] = {"description": "The file has not changed"}
_OTHER: Final[dict[str, Any]] = {"model": ApiResponseError, "description": "A condition of the request does not hold"}
# GET and HEAD of a file
DOWNLOAD_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    **BINARY_RESPONSE,
    206: {"description": "A part of the file, or several (multipart/byteranges)"},
    304: _SAME,
    412: _OTHER,
    416: {"model": ApiResponseError, "description": "The file has no such part"},
}
HEAD_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {200: {"description": "The file is there"}, 304: _SAME}
PUT_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    201: {"description": "The file was made"},
    204: {"description": "The file was replaced"},
    412: _OTHER,
}
RAW_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
NO_SECURITY: Final[dict[str, Any]] = {"security": []}  # for a route that needs no token
UPLOAD_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": {"$ref": _REF.format(model=_UPLOAD_FORM)}}},
    }
}
_SYSTEM_NAME: Final[dict[str, Any]] = {
    "name": "system_name",
    "in": "path",
    "required": True,
    "description": "Name of the system, in upper or lower case",
    "schema": {"type": "string", "title": "System Name"},
}


def oauth2_scheme(token_url: str, scopes: Mapping[str, str]) -> dict[str, Any]:
    """The security scheme of OAuth 2.0 client credentials (OpenAPI 3.1, 4.8.27)."""
    return {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": token_url, "scopes": dict(scopes)}}}


def code_scheme(authorization_url: str, token_url: str, scopes: Mapping[str, str]) -> dict[str, Any]:
    """The security scheme of OAuth 2.0 authorization codes (OpenAPI 3.1, 4.8.27), for issuers without discovery."""
    urls = {"authorizationUrl": authorization_url, "tokenUrl": token_url}
    return {"type": "oauth2", "flows": {"authorizationCode": {**urls, "scopes": dict(scopes)}}}


def openid_scheme(issuer: str) -> dict[str, Any]:
    """The security scheme of an OpenID Connect issuer, which clients discover (OpenAPI 3.1, 4.8.27)."""
    return {"type": "openIdConnect", "openIdConnectUrl": f"{issuer.rstrip('/')}/.well-known/openid-configuration"}


# The groups of the pages at /docs, in the order in which they are shown.
_GROUPS: Final = (
    ("/status/", "status", "Systems, their nodes, partitions and health, and the caller's account."),
    ("/compute/", "compute", "Jobs: submit, watch, change, cancel."),
    # FirecREST has one group for both, and generated clients name their modules by it.
    (
        "/filesystem/",
        "filesystem",
        "`ops`: files, in one request each. `transfer`: large files, and batch jobs.",
    ),
    ("/filesystem/{system_name}/bulk/", "bulk", "Many files in one request."),
    ("/filesystem/{system_name}/uploads", "uploads", "Uploads that can be continued (tus)."),
    ("/tokens", "tokens", "Tokens of the gateway that can do less than the caller's own."),
)
_PARAMETERS: Final[Mapping[str, str]] = {
    "dereference": "Show what a symbolic link points to instead of the link",
    "showHidden": "Show names that begin with a dot, too",
    "numericUid": "Show owners and groups as numbers",
    "recursive": "List folders below, too",
    "size": "Number of bytes",
    "offset": "First byte, from 0",
    "bytes": "Number of bytes; not together with `lines`",
    "lines": "Number of lines; not together with `bytes`",
    "skipTrailing": "Show all but the last bytes or lines",
    "skipHeading": "Begin with this byte or line instead of counting from the end",
    "follow": "Go on with what is added, until the client ends the connection or the job ends",
    "algorithm": "Algorithm of the checksum",
    "signal": "Signal to send instead of ending the job",
    "allusers": "List jobs of all users that the caller may see",
    "name": "Only jobs of this name",
    "time_window": "How far back the list reaches; jobs that are not over are always in it",
    "show_hidden": "Show hidden partitions, too",
    "setuid": "Keep setuid, setgid and sticky bits of the archive",
    "token_id": "Id of the token, as the list shows it",
}


def _describe(path: str, operation: dict[str, Any]) -> None:
    """Group, summary and descriptions of parameters of an operation."""
    fitting = [(len(start), tag) for start, tag, _ in _GROUPS if path.startswith(start)]
    operation["tags"] = [max(fitting)[1] if fitting else "other"]
    sentence = operation.get("description", "").partition("\n")[0].partition(". ")[0].partition(";")[0]
    if sentence:
        operation["summary"] = sentence.rstrip(".").replace("`", "")
    for parameter in operation.get("parameters", ()):
        if "description" not in parameter and parameter["name"] in _PARAMETERS:
            parameter["description"] = _PARAMETERS[parameter["name"]]


def complete(document: dict[str, Any], oauth2: dict[str, Any] | None = None) -> dict[str, Any]:
    """Add what the framework does not know to its document, in place. `oauth2` is a second security scheme."""
    names = [BEARER, OAUTH2] if oauth2 else [BEARER]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _describe(path, operation)
            add_examples(operation)
            operation.setdefault("security", [{name: []} for name in names])
            if "{system_name}" in path:
                operation.setdefault("parameters", []).insert(0, _SYSTEM_NAME)
    document["tags"] = [{"name": tag, "description": text} for _, tag, text in _GROUPS]
    components = document.setdefault("components", {})
    schemes = components.setdefault("securitySchemes", {})
    schemes[BEARER] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": _FORM}
    if oauth2:
        schemes[OAUTH2] = oauth2
    _, extra = models_json_schema([(UploadForm, "validation"), (ServiceAccount, "validation")], ref_template=_REF)
    schemas = components.setdefault("schemas", {})
    schemas[_UPLOAD_FORM] = extra["$defs"]["UploadForm"]
    schemas["ServiceAccount"] = extra["$defs"]["ServiceAccount"]
    return document
