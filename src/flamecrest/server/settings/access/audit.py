"""Settings of the audit log."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from flamecrest.server.settings.problems import InvalidSetting
from flamecrest.server.settings.section import FLAMECREST_ONLY, Bytes, Count, Secret, Section, Word, none_if_blank
from flamecrest.server.settings.use import ReadBy

_ADDRESS = re.compile(r"unix:/.+|(udp|tcp)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", re.ASCII)


def _address(value: str) -> str:
    if _ADDRESS.fullmatch(value) is None:
        raise InvalidSetting("is not the address of a syslog server", "unix:/dev/log or tcp://log.example.org:601")
    return value


def _file(value: str) -> str:
    if not Path(value).is_absolute():
        raise InvalidSetting("must be an absolute path", f"/var/log/flamecrest/{value}")
    if not Path(value).parent.is_dir():
        raise InvalidSetting(f"is in the folder {Path(value).parent}, which does not exist", "create it")
    if Path(value).is_symlink():
        raise InvalidSetting("is a symbolic link, and no link is followed", "name the file that it leads to")
    if Path(value).exists() and not Path(value).is_file():
        raise InvalidSetting("is no regular file", "for other destinations set `stdout` or `syslog`")
    return value


class AuditSettings(Section):
    """The audit log: a line of JSON for each call that may change something, and for each denial."""

    USE = ReadBy("server.wiring")

    file: Annotated[Word, AfterValidator(_file)] | None = Field(
        default=None,
        description="The file to append to; only its owner can read it. Several processes may share it.",
        examples=["/var/log/flamecrest/audit.jsonl"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_file_size: Bytes | None = Field(
        default=None,
        description="The size from which on the file is renamed (the time is added to its name) and a new one begun. "
        "Not set: never; another program may do it.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    keep_files: Count | None = Field(
        default=None,
        description="How many renamed files are kept; older ones are removed. Not set: all.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    stdout: bool = Field(default=False, description="Write to standard output.", json_schema_extra=FLAMECREST_ONLY)
    syslog: Annotated[Word, AfterValidator(_address)] | None = Field(
        default=None,
        description="The syslog server to send to: `unix:/dev/log`, `udp://HOST:PORT` or `tcp://HOST:PORT`.",
        examples=["tcp://log.example.org:601"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    key: Annotated[Secret | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="A key for the hashes. Without it, a person who can write to the log can compute them anew.",
        examples=["secret_file:/run/secrets/audit_key"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    reads: bool = Field(
        default=False, description="Record calls that only read, too.", json_schema_extra=FLAMECREST_ONLY
    )

    @model_validator(mode="after")
    def _goes_somewhere(self) -> AuditSettings:
        if self.file is None and self.syslog is None and not self.stdout:
            raise InvalidSetting("has no destination", "set `file`, `stdout` or `syslog`")
        if self.file is None and (self.max_file_size is not None or self.keep_files is not None):
            raise InvalidSetting("has `max_file_size` or `keep_files` without `file`", "set `file`")
        return self
