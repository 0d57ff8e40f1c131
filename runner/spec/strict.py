"""The base of every table of a sweep file: frozen, with strict types and no unknown keys."""

from pydantic import BaseModel, ConfigDict


class StrictSpec(BaseModel):
    """A table of a sweep file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
