"""Settings of ingestion (`parameters_ingestion.yml`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, PlainValidator, field_validator

from wind_kedro.storage.paths import data_path
from wind_kedro.strict import Strict


class IngestionParameters(Strict):
    """Which feeds a run fetches, and where they land."""

    only: tuple[str, ...] = Field((), description="ids of the feeds to fetch; none: all")
    raw_folder: Annotated[Path, PlainValidator(lambda value: data_path(value, "raw_folder"))] = Field(
        description="the environment's folder of raw data"
    )

    @field_validator("only", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        # A list cannot be typed on the command line: there a comma begins the next parameter.
        return value.split() if isinstance(value, str) else value
