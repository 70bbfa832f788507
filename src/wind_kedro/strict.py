"""The base class of what is configured: settings, rules and cards."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A model that refuses unknown fields and infinite numbers, and never changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
