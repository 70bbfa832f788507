"""The parameters of ingestion (`parameters_ingestion.yml`)."""

from pydantic import field_validator

from wind_kedro.strict import Strict


class IngestionParameters(Strict):
    """What `parameters_ingestion.yml` sets."""

    only: tuple[str, ...] = ()

    @field_validator("only", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        # A list cannot be typed on the command line: there a comma begins the next parameter.
        return value.split() if isinstance(value, str) else value
