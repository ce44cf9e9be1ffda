"""Large files by clients that users have: the command line of pyfirecrest, and scripts as firecrest-ui makes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from .test_curl import program

if TYPE_CHECKING:
    from .conftest import Api

CLI = Path(sys.executable).with_name("firecrest")
# Each part is cut out by dd and sent by curl; the ETag in the header of the response goes into the list of parts.
SHELL = r"""
set -Eeuo pipefail
number=0 listed=
for url in $PARTS; do
    dd if="$FILE" of=part bs="$SIZE" skip="$number" count=1 status=none
    number=$((number + 1))
    header=$(curl -sS -f -D - -o answer --upload-file part "$url" | tr -d '\r' | grep -i '^ETag: ')
    listed+="<Part><PartNumber>$number</PartNumber><ETag>$(sed 's/^[^"]*//' <<< "$header")</ETag></Part>"
done
curl -sS -f -H 'Content-Type: application/xml' -X POST "$COMPLETE" -d \
    "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">$listed</CompleteMultipartUpload>"
"""


def cli(api: Api, *words: str) -> str:
    variables = {
        "FIRECREST_URL": api.url,
        "FIRECREST_SYSTEM": api.system,
        "FIRECREST_CLIENT_ID": api.client_id,
        "FIRECREST_CLIENT_SECRET": api.secret,
        "AUTH_TOKEN_URL": api.token_url,
    }
    done = subprocess.run(
        [CLI, *words],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.live  # the client takes seconds to start
@pytest.mark.timeout(60)
def test_command_line_of_pyfirecrest(api: Api, work: str, tmp_path: Path) -> None:
    data = os.urandom(2_500_000)
    (tmp_path / "it's large").write_bytes(data)
    cli(api, "upload", str(tmp_path / "it's large"), work)
    cli(api, "download", f"{work}/it's large", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data


@pytest.mark.parametrize("size", [0, 1, 2_500_000])
def test_shell_script_with_curl(api: Api, work: str, tmp_path: Path, size: int) -> None:
    program("curl")
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    with api.http() as http:
        wanted = {"sourcePath": f"{work}/new", "transferDirectives": {"transferMethod": "s3", "fileSize": size}}
        started = http.post(f"/filesystem/{api.system}/transfer/upload", json=wanted).json()["transferDirectives"]
        variables = {
            "PARTS": " ".join(started["partsUploadUrls"] if size else []),  # such scripts send no empty part
            "COMPLETE": started["completeUploadUrl"],
            "SIZE": str(started["maxPartSize"]),
            "FILE": str(tmp_path / "file"),
        }
        done = subprocess.run(
            ["bash", "-c", SHELL], check=False, capture_output=True, cwd=tmp_path, env=os.environ | variables
        )
        assert done.returncode == 0, done.stderr
        wanted = {"sourcePath": f"{work}/new", "transferDirectives": {"transferMethod": "s3"}}
        url = http.post(f"/filesystem/{api.system}/transfer/download", json=wanted).json()["transferDirectives"]
    assert httpx.get(url["downloadUrl"], verify=False).content == data
