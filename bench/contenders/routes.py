"""The routes of the baselines: the paths and the token check of the gateway. The system in a path is ignored."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, HTTPException, Request, Response, UploadFile

from flamecrest.server.auth.oidc import OidcAuthenticator
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError

files = APIRouter(prefix="/filesystem/{system}/ops")
jobs_of = APIRouter(prefix="/compute/{system}/jobs")
cluster = APIRouter(prefix="/status/{system}")
others = APIRouter()
ROUTERS = (files, jobs_of, cluster, others)


async def _username(request: Request, authorization: Annotated[str | None, Header()] = None) -> str:
    tokens: OidcAuthenticator = request.app.state.tokens
    try:
        identity = await tokens.authenticate(authorization, Deadline.after(10))
    except GatewayError as error:
        raise HTTPException(401, error.public) from None
    return identity.username


Username = Annotated[str, Depends(_username)]


@others.get("/status/liveness")
async def liveness() -> Response:
    return Response(b"{}", media_type="application/json")


@files.get("/download")
async def download(request: Request, user: Username, path: str) -> Response:
    content = await request.app.state.operations.download(user, path)
    return Response(content, media_type="application/octet-stream")


@files.get("/stat")
async def stat(request: Request, user: Username, path: str) -> Response:
    return Response(await request.app.state.operations.stat(user, path), media_type="application/json")


@files.get("/ls")
async def ls(request: Request, user: Username, path: str) -> Response:
    return Response(await request.app.state.operations.ls(user, path), media_type="application/json")


@files.post("/upload")
async def upload(request: Request, user: Username, path: str, file: UploadFile) -> Response:
    await request.app.state.operations.upload(user, f"{path}/{file.filename}", await file.read())
    return Response(status_code=204)


@jobs_of.get("")
async def jobs(request: Request, user: Username) -> Response:
    return Response(await request.app.state.operations.jobs(user, None), media_type="application/json")


@jobs_of.get("/{job_id}")
async def job(request: Request, user: Username, job_id: str) -> Response:
    return Response(await request.app.state.operations.jobs(user, job_id), media_type="application/json")


@jobs_of.post("", status_code=201)
async def submit(request: Request, user: Username, body: Annotated[dict[str, dict[str, str]], Body()]) -> Response:
    submitted = await request.app.state.operations.submit(user, body["job"])
    return Response(submitted, status_code=201, media_type="application/json")


@files.post("/mkdir")
async def mkdir(request: Request, user: Username, body: Annotated[dict[str, Any], Body()]) -> Response:
    await request.app.state.operations.mkdir(user, body["path"])
    return Response(status_code=201)


@files.delete("/rm")
async def rm(request: Request, user: Username, path: str) -> Response:
    await request.app.state.operations.rm(user, path)
    return Response(status_code=204)


@others.get("/status/systems")
async def systems(_user: Username) -> Response:
    return Response(b'{"systems": []}', media_type="application/json")


@cluster.get("/partitions")
async def partitions(request: Request, user: Username) -> Response:
    return Response(await request.app.state.operations.partitions(user), media_type="application/json")


@cluster.get("/nodes")
async def nodes(request: Request, user: Username) -> Response:
    return Response(await request.app.state.operations.nodes(user), media_type="application/json")
