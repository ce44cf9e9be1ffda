"""WireModel: snake_case in Python, camelCase on the wire; both are accepted."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class WireModel(BaseModel):
    """Base class of all FirecREST v2 messages.

    Written by its camelCase alias; read by alias or by its own snake_case name. Unknown fields are ignored, so
    that clients of other versions keep working.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        protected_namespaces=(),
    )
