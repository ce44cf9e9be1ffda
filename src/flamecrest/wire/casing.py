"""WireModel: snake_case inside, camelCase on the wire, both accepted; knows no particular message."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class WireModel(BaseModel):
    """What every FirecREST v2 message is made of.

    Written by its camelCase alias; read by alias or by its own snake_case name. Unknown fields are ignored, so
    that clients of other versions go on working.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        protected_namespaces=(),
    )
