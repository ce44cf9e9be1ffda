"""The base of every section and the kinds of value they hold; it knows no particular setting.

A key may be written as the field is called (`max_clients`) or in camel case (`maxClients`), in every section.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic.alias_generators import to_camel

from .problems import InvalidSetting

FLAMECREST_ONLY: dict[str, Any] = {"flamecrest": True}  # json_schema_extra of a field that FirecREST does not have
YEAR = 365 * 24 * 3600
MAX_SECRET = 1024 * 1024  # bytes
SECRET_FILE = "secret_file:"  # noqa: S105 - the mark of a reference, not a secret


class Section(BaseModel):
    """A mapping of the configuration with known keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    RENAMED: ClassVar[Mapping[str, str]] = {}  # older names of keys, and what they are called now
    IGNORED: ClassVar[Mapping[str, str]] = {}  # keys that are accepted without effect, and why
    TAG: ClassVar[str | None] = None  # the key that tells variants of a section apart
    EMPTY_IS_SET: ClassVar[bool] = False  # whether a key without a value means an empty section, not "not set"

    @classmethod
    def field_named(cls, key: str) -> str | None:
        """The field that a key means, in any of its spellings; None if there is none."""
        for name in cls.model_fields:
            if key in (name, to_camel(name)):
                return name
        for older, name in cls.RENAMED.items():
            if key in (older, to_camel(older)):
                return name
        return None

    @classmethod
    def ignores(cls, key: str) -> bool:
        """Whether a key is accepted without effect."""
        return any(key in (name, to_camel(name)) for name in cls.IGNORED)

    @classmethod
    def is_ours(cls, name: str) -> bool:
        """Whether a field is one that FirecREST does not have."""
        return cls.model_fields[name].json_schema_extra == FLAMECREST_ONLY

    @classmethod
    def known_keys(cls) -> list[str]:
        """Every key that has an effect, by its own name."""
        return list(cls.model_fields)

    @model_validator(mode="before")
    @classmethod
    def _by_field(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        result: dict[str, Any] = {}
        for key, value in data.items():
            if value is None or cls.ignores(str(key)):
                continue
            name = cls.field_named(str(key)) or str(key)
            if name in result:
                raise InvalidSetting(f"`{name}` is given twice, in two spellings", "keep one")
            result[name] = value
        return result


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value is, in words for people; a `private` one is never shown in an error."""

    name: str
    private: bool = False


class StoredSecret(SecretStr):
    """A secret that came from a file of its own or from the environment, not from the configuration's text."""


def read_secret(value: Any) -> Any:
    """A secret as it is, or what stands in the file that `secret_file:PATH` names."""
    if isinstance(value, SecretStr) or not isinstance(value, str):
        return value
    if not value.startswith(SECRET_FILE):
        return value
    path = value.removeprefix(SECRET_FILE).strip()
    return StoredSecret(_read_text(path).strip())


def _read_text(path: str) -> str:
    try:
        with Path(path).expanduser().open("rb") as stream:
            data = stream.read(MAX_SECRET + 1)
    except FileNotFoundError:
        raise InvalidSetting(f"the secret file {path} does not exist", "create it, or mount it there") from None
    except IsADirectoryError:
        raise InvalidSetting(f"{path} is a directory", "name the file that holds the secret") from None
    except OSError as error:
        raise InvalidSetting(f"the secret file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RuntimeError):
        raise InvalidSetting("the path after `secret_file:` is no path") from None
    if len(data) > MAX_SECRET:
        raise InvalidSetting(f"the secret file {path} is larger than {MAX_SECRET} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidSetting(f"the secret file {path} is not UTF-8 text") from None


def _not_blank(value: SecretStr) -> SecretStr:
    if not value.get_secret_value():
        raise InvalidSetting("is empty", f"the secret itself, or {SECRET_FILE}/path/to/file")
    return value


def none_if_blank(value: Any) -> Any:
    """Nothing for an empty text: FirecREST's files use "" for what is not set."""
    return None if isinstance(value, str) and not value.strip() else value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise InvalidSetting("must be a number, is a truth value")
    return value


def _word(value: str) -> str:
    text = value.strip()
    if not text:
        raise InvalidSetting("is empty")
    if "\0" in text:
        raise InvalidSetting("holds a NUL character")
    return text


def _split(value: str, schemes: tuple[str, ...]) -> SplitResult:
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    text = _word(value)
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise InvalidSetting("is no URL", f"one that begins with {wanted}") from None
    if parts.scheme not in schemes or re.search(r"[\s\x00-\x20\x7f]", text):
        raise InvalidSetting("is no URL of the right kind", f"one that begins with {wanted}")
    if parts.scheme != "file" and not parts.hostname:
        raise InvalidSetting("is a URL without a host", f"{parts.scheme}://host.example.org/…")
    if parts.username or parts.password:
        raise InvalidSetting("must not hold a user name or password")
    return parts


def _url(value: str) -> str:
    _split(value, ("https", "http"))
    return value.strip()


def _key_url(value: str) -> str:
    parts = _split(value, ("https", "http", "file"))
    if parts.scheme == "file" and not parts.path.startswith("/"):
        raise InvalidSetting("must name an absolute path", "file:///etc/flamecrest/keys.json")
    return value.strip()


def _host(value: str) -> str:
    text = _word(value)
    if not re.fullmatch(r"[A-Za-z0-9_.:\[\]%][A-Za-z0-9_.:\[\]%-]*", text):
        raise InvalidSetting(
            "is no host name or address", "login.example.org or 192.0.2.7, the port goes into its own key"
        )
    return text


def _remote_path(value: str) -> str:
    text = _word(value)
    if not text.startswith("/"):
        raise InvalidSetting("must be an absolute path", f"/{text}")
    if ".." in text.split("/"):
        raise InvalidSetting("must not hold `..`")
    return text


def as_tuple(value: Any) -> Any:
    """One text alone stands for a list of one."""
    return (value,) if isinstance(value, str) else value


_Float = Annotated[float, BeforeValidator(_number)]
_Int = Annotated[int, BeforeValidator(_number)]

Word = Annotated[str, Kind("text"), AfterValidator(_word)]
Seconds = Annotated[_Float, Kind("seconds"), Field(gt=0, le=YEAR)]
SecondsOrNone = Annotated[_Float, Kind("seconds or 0"), Field(ge=0, le=YEAR)]
Count = Annotated[_Int, Kind("count"), Field(ge=1, le=1_000_000)]
CountOrNone = Annotated[_Int, Kind("count, 0: no limit"), Field(ge=0, le=1_000_000)]
Bytes = Annotated[_Int, Kind("bytes"), Field(ge=1, le=2**63 - 1)]
Port = Annotated[_Int, Kind("port"), Field(ge=1, le=65535)]
Url = Annotated[str, Kind("URL", private=True), AfterValidator(_url)]
KeyUrl = Annotated[str, Kind("URL (https, http, file)", private=True), AfterValidator(_key_url)]
Host = Annotated[str, Kind("host"), AfterValidator(_host)]
RemotePath = Annotated[str, Kind("path on the cluster"), AfterValidator(_remote_path)]
Secret = Annotated[SecretStr, Kind("secret", private=True), BeforeValidator(read_secret)]
FilledSecret = Annotated[Secret, AfterValidator(_not_blank)]
Words = Annotated[tuple[Word, ...], BeforeValidator(as_tuple)]
