"""Examples of request bodies in the OpenAPI document: the fewest fields with which an operation does something useful.

Without them, a page fills in every field of a message at once, also those that contradict each other.
"""

from __future__ import annotations

from typing import Any, Final

_HOME: Final = "/home/alice"
_JOB: Final = {"name": "hello", "workingDirectory": _HOME, "script": "#!/bin/bash\nhostname\n"}
_FILE: Final = {"path": f"{_HOME}/data.txt"}
_TO: Final = {**_FILE, "targetPath": f"{_HOME}/copy.txt"}
_PACK: Final = {"path": f"{_HOME}/results", "targetPath": f"{_HOME}/results.tar.gz"}
_UNPACK: Final = {"path": f"{_HOME}/results.tar.gz", "targetPath": f"{_HOME}/unpacked"}
_DIRECT: Final = {"transferMethod": "direct"}
_JOBS: Final = {"jobIds": ["4711", "4712"]}

EXAMPLES: Final[dict[str, Any]] = {  # by the name of the message
    "PostJobSubmitRequest": {"job": _JOB},
    "BulkSubmitRequest": {"jobs": [_JOB, {**_JOB, "name": "again"}]},
    "BulkJobsRequest": _JOBS,
    "PatchJobRequest": {"timeLimit": "1h30m"},
    "PostJobAttachRequest": {"command": "hostname"},
    "PostJobSignalRequest": {"signal": "USR1"},
    "PutFileChmodRequest": {**_FILE, "mode": "640"},
    "PutFileChownRequest": {**_FILE, "group": "users"},
    "PostMakeDirRequest": {"path": f"{_HOME}/results", "parent": True},
    "PostFileSymlinkRequest": {**_FILE, "linkPath": f"{_HOME}/link.txt"},
    "PostCompressRequest": _PACK,
    "PostExtractRequest": _UNPACK,
    "OpsMvRequest": _TO,
    "OpsCpRequest": _TO,
    "OpsTouchRequest": _FILE,
    "OpsTruncateRequest": {**_FILE, "size": 0},
    "MoveRequest": _TO,
    "CopyRequest": _TO,
    "CompressRequest": _PACK,
    "ExtractRequest": _UNPACK,
    "PostFileUploadRequest": {**_FILE, "transferDirectives": {**_DIRECT, "fileSize": 1024}},
    "PostFileDownloadRequest": {**_FILE, "transferDirectives": _DIRECT},
    "SyncTransferRequest": {"path": f"{_HOME}/results", "targetPath": f"{_HOME}/mirror", "dryRun": True},
    "CopyTransferRequest": {**_TO, "targetSystem": "other-cluster"},
    "BulkDownloadRequest": {"paths": [f"{_HOME}/results"]},
    "BulkStatRequest": {"items": [_FILE]},
    "BulkRmRequest": {"items": [_FILE]},
    "BulkChmodRequest": {"items": [{**_FILE, "mode": "640"}]},
    "BulkMkdirRequest": {"items": [{"path": f"{_HOME}/results", "parent": True}]},
    "TokenRequest": {"verbs": ["files:read"], "lifetime": 3600},
}


def add_examples(operation: dict[str, Any]) -> None:
    """Add the example to the JSON body of an operation of the document, if it has one."""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None and (name := body["schema"].get("$ref", "").rpartition("/")[2]) in EXAMPLES:
        body["example"] = EXAMPLES[name]
