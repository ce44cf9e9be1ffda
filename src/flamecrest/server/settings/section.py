"""The base class of all sections and the types of their values; it knows no particular setting.

In every section a key may be written in snake case (`max_clients`) or in camel case (`maxClients`).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    model_validator,
)
from pydantic.alias_generators import to_camel

from .problems import InvalidSetting
from .use import NoEffect, ReadBy, Use

FLAMECREST_ONLY: dict[str, Any] = {"flamecrest": True}  # json_schema_extra of a field that FirecREST does not have
YEAR = 365 * 24 * 3600
MAX_SECRET = 1024 * 1024  # bytes
SECRET_FILE = "secret_file:"  # noqa: S105 - the prefix of a reference, not a secret


class Section(BaseModel):
    """A mapping of the configuration with known keys. Immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    USE: ClassVar[Use | None] = None  # of the fields that declare none of their own
    RENAMED: ClassVar[Mapping[str, str]] = {}  # older names of keys, with their current names
    IGNORED: ClassVar[Mapping[str, str]] = {}  # keys that are not fields: accepted without effect, with the reason
    TAG: ClassVar[str | None] = None  # the key that selects one of several variants of a section
    EMPTY_IS_SET: ClassVar[bool] = False  # whether a key without a value is an empty section instead of "not set"

    _ignored: tuple[str, ...] = PrivateAttr(default=())

    @property
    def ignored(self) -> tuple[str, ...]:
        """The keys of IGNORED that were given."""
        return self._ignored

    @classmethod
    def use_of(cls, name: str) -> Use:
        """How a field is used; raises TypeError if neither the field nor its section declares it."""
        declared = (item for item in cls.model_fields[name].metadata if isinstance(item, ReadBy | NoEffect))
        use = next(declared, cls.USE)
        if use is None:
            raise TypeError(f"{cls.__name__}.{name} does not declare its use")
        return use

    @classmethod
    def field_named(cls, key: str) -> str | None:
        """The field that a key names, in any spelling; None if there is none."""
        for name in cls.model_fields:
            if key in (name, to_camel(name)):
                return name
        for older, name in cls.RENAMED.items():
            if key in (older, to_camel(older)):
                return name
        return None

    @classmethod
    def ignored_key(cls, key: str) -> str | None:
        """The key of IGNORED that a key names, in any spelling; None if there is none."""
        return next((name for name in cls.IGNORED if key in (name, to_camel(name))), None)

    @classmethod
    def is_flamecrest_only(cls, name: str) -> bool:
        """Whether FirecREST does not have this field."""
        return cls.model_fields[name].json_schema_extra == FLAMECREST_ONLY

    @classmethod
    def known_keys(cls) -> list[str]:
        """The names of all fields."""
        return list(cls.model_fields)

    @model_validator(mode="wrap")
    @classmethod
    def _by_field_name(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, Mapping):
            return validate(data)
        fields: dict[str, Any] = {}
        ignored: list[str] = []
        for key, value in data.items():
            if value is None:
                continue
            if without_effect := cls.ignored_key(str(key)):
                ignored.append(without_effect)
                continue
            name = cls.field_named(str(key)) or str(key)
            if name in fields:
                raise InvalidSetting(f"`{name}` is given twice, in two spellings", "keep one")
            fields[name] = value
        section = validate(fields)
        section._ignored = tuple(ignored)  # noqa: SLF001 - an instance of this very class
        return section


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind of a value as documentation and errors name it; `private` values are never shown in an error."""

    name: str
    private: bool = False


class StoredSecret(SecretStr):
    """A secret from a file of its own or from the environment, as opposed to one in the configuration file.

    `readable_file` is the path of its file if every account of the host can read it.
    """

    def __init__(self, value: str, readable_file: str | None = None) -> None:
        super().__init__(value)
        self.readable_file = readable_file


def read_secret(value: Any) -> Any:
    """The secret itself, or the content of the file that `secret_file:PATH` names."""
    if isinstance(value, SecretStr) or not isinstance(value, str):
        return value
    if not value.startswith(SECRET_FILE):
        return value
    path = value.removeprefix(SECRET_FILE).strip()
    data, readable = _read_file(path)
    try:
        return StoredSecret(data.decode("utf-8-sig").strip(), readable)
    except UnicodeDecodeError:
        raise InvalidSetting(f"the secret file {path} is not UTF-8 text") from None


def read_key(value: Any) -> Any:
    """The content of a file with a key, as text of one character for each byte. It may hold any bytes."""
    if isinstance(value, SecretStr) or not isinstance(value, str | Path):
        return value
    data, readable = _read_file(str(value))
    if not data:
        raise InvalidSetting(f"the file {value} is empty", "Slurm's key: the file that `jwt_key=` in slurm.conf names")
    return StoredSecret(data.decode("latin-1"), readable)


def _read_file(path: str) -> tuple[bytes, str | None]:
    """The content of a file, and its path if every account can read it; None for a read-only mount of a container."""
    try:
        with Path(path).expanduser().open("rb") as stream:
            data = stream.read(MAX_SECRET + 1)
            mounted = bool(os.fstatvfs(stream.fileno()).f_flag & os.ST_RDONLY)
            readable = bool(os.fstat(stream.fileno()).st_mode & stat.S_IROTH) and not mounted
    except FileNotFoundError:
        raise InvalidSetting(f"the secret file {path} does not exist", "create it, or mount it there") from None
    except IsADirectoryError:
        raise InvalidSetting(f"{path} is a directory", "name the file that holds the secret") from None
    except OSError as error:
        raise InvalidSetting(f"the secret file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RuntimeError):
        raise InvalidSetting("the path after `secret_file:` is invalid") from None
    if len(data) > MAX_SECRET:
        raise InvalidSetting(f"the secret file {path} is larger than {MAX_SECRET} bytes")
    return data, path if readable else None


def _not_blank(value: SecretStr) -> SecretStr:
    if not value.get_secret_value():
        raise InvalidSetting("is empty", f"the secret itself, or {SECRET_FILE}/path/to/file")
    return value


def none_if_blank(value: Any) -> Any:
    """None for an empty string: FirecREST's configuration files use "" for "not set"."""
    return None if isinstance(value, str) and not value.strip() else value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise InvalidSetting("must be a number, not true or false")
    return value


def _word(value: str) -> str:
    text = value.strip()
    if not text:
        raise InvalidSetting("is empty")
    if "\0" in text:
        raise InvalidSetting("contains a NUL character")
    return text


def _split(value: str, schemes: tuple[str, ...]) -> SplitResult:
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    text = _word(value)
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise InvalidSetting("is not a URL", f"it must begin with {wanted}") from None
    if parts.scheme not in schemes or re.search(r"[\s\x00-\x20\x7f]", text):
        raise InvalidSetting("is not a URL that can be used here", f"it must begin with {wanted}")
    if parts.scheme != "file" and not parts.hostname:
        raise InvalidSetting("is a URL without a host", f"{parts.scheme}://host.example.org/…")
    if parts.username or parts.password:
        raise InvalidSetting("must not contain a user name or password")
    return parts


def _url(value: str) -> str:
    _split(value, ("https", "http"))
    return value.strip()


def _api_url(value: str) -> str:
    if value.strip().startswith("unix:"):
        path = value.strip().removeprefix("unix:").removeprefix("//")
        return f"unix:{_remote_path(path)}"
    return _url(value)


def _key_url(value: str) -> str:
    parts = _split(value, ("https", "http", "file"))
    if parts.scheme == "file" and not parts.path.startswith("/"):
        raise InvalidSetting("must contain an absolute path", "file:///etc/flamecrest/keys.json")
    return value.strip()


def _host(value: str) -> str:
    text = _word(value)
    if not re.fullmatch(r"[A-Za-z0-9_.:\[\]%][A-Za-z0-9_.:\[\]%-]*", text):
        raise InvalidSetting(
            "is not a host name or address", "login.example.org or 192.0.2.7; the port has a key of its own"
        )
    return text


def _remote_path(value: str) -> str:
    text = _word(value)
    if not text.startswith("/"):
        raise InvalidSetting("must be an absolute path", f"/{text}")
    if ".." in text.split("/"):
        raise InvalidSetting("must not contain `..`")
    return text


def as_tuple(value: Any) -> Any:
    """Accept a single string as a list of one."""
    return (value,) if isinstance(value, str) else value


_Float = Annotated[float, BeforeValidator(_number)]
_Int = Annotated[int, BeforeValidator(_number)]

Word = Annotated[str, Kind("string"), AfterValidator(_word)]
Seconds = Annotated[_Float, Kind("seconds"), Field(gt=0, le=YEAR)]
SecondsOrNone = Annotated[_Float, Kind("seconds or 0"), Field(ge=0, le=YEAR)]
Count = Annotated[_Int, Kind("count"), Field(ge=1, le=1_000_000)]
CountOrNone = Annotated[_Int, Kind("count, 0: no limit"), Field(ge=0, le=1_000_000)]
Ratio = Annotated[_Float, Kind("number from 0 to 1"), Field(ge=0, le=1)]
PerSecond = Annotated[_Float, Kind("number"), Field(ge=0.001, le=1e12)]
Bytes = Annotated[_Int, Kind("bytes"), Field(ge=1, le=2**63 - 1)]
Port = Annotated[_Int, Kind("port"), Field(ge=1, le=65535)]
Url = Annotated[str, Kind("URL", private=True), AfterValidator(_url)]
KeyUrl = Annotated[str, Kind("URL (https, http, file)", private=True), AfterValidator(_key_url)]
ApiUrl = Annotated[str, Kind("URL (https, http, unix)", private=True), AfterValidator(_api_url)]
Host = Annotated[str, Kind("host"), AfterValidator(_host)]
RemotePath = Annotated[str, Kind("path on the cluster"), AfterValidator(_remote_path)]
Secret = Annotated[SecretStr, Kind("secret", private=True), BeforeValidator(read_secret)]
KeyFile = Annotated[SecretStr, Kind("path of a file", private=True), BeforeValidator(read_key)]
FilledSecret = Annotated[Secret, AfterValidator(_not_blank)]
Words = Annotated[tuple[Word, ...], BeforeValidator(as_tuple)]


def _existing(value: Path) -> Path:
    try:
        path = value.expanduser()
        found = path.is_file()
    except (ValueError, RuntimeError, OSError):
        raise InvalidSetting("is not the path of a readable file") from None
    if not found:
        raise InvalidSetting(f"the file {path} does not exist", "a file in OpenSSH's known_hosts format")
    return path


def _public_key(value: str) -> str:
    parts = value.split()
    hint = "one line as in a .pub file: ssh-ed25519 AAAAC3…"
    if len(parts) < 2 or not re.fullmatch(r"(ssh|ecdsa|sk)-[A-Za-z0-9@.-]+", parts[0]):
        raise InvalidSetting("is not a public key in OpenSSH format", hint)
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidSetting("is a public key that is truncated or damaged", hint) from None
    kind = parts[0].encode("ascii")
    if blob[: 4 + len(kind)] != len(kind).to_bytes(4, "big") + kind:
        raise InvalidSetting("is a public key of another type than its prefix says", hint)
    return " ".join(parts[:2])


def off_is_a_word(value: Any) -> Any:
    """`off` of YAML 1.1 again, which it reads as false."""
    return "off" if value is False else value


PublicKey = Annotated[str, Kind("public key"), AfterValidator(_public_key)]
KnownHosts = Annotated[Path, Kind("path of a file"), AfterValidator(_existing)]
