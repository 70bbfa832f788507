"""What all contracts share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import pandas as pd
import pandera.pandas as pa


def _hide_dask() -> None:
    """Let pandera find no Dask: it imports Dask's tables where Dask is installed, which takes a second, and DuckDB then reports
    leaks when the process ends. No contract is of a table of Dask.
    """
    hidden = "dask.dataframe" if "dask" in sys.modules else "dask"
    if hidden not in sys.modules:
        sys.modules[hidden] = None  # type: ignore[assignment]
        try:
            importlib.import_module("pandera.typing.dask")
        finally:
            del sys.modules[hidden]


_hide_dask()

Utc = Annotated[pd.DatetimeTZDtype, "us", "UTC"]


class Contract(pa.DataFrameModel):
    """What all contracts share: columns are brought to their type, unknown columns are refused.

    A subclass names the columns of its key (``key=["farm_id"]``); with ``strict=False`` it may have other columns too.
    """

    class Config:
        """Pandera's settings."""

        strict = True
        coerce = True

    def __init_subclass__(cls, key: Sequence[str] | None = None, strict: bool | None = None, **options: Any) -> None:
        given = {"unique": key and list(key), "strict": strict}
        settings = {name: value for name, value in given.items() if value is not None}
        cls.Config = type("Config", (cls.Config,), {"name": cls.__name__} | settings)  # type: ignore[assignment, misc]
        super().__init_subclass__(**options)  # type: ignore[no-untyped-call]

    @classmethod
    def table(cls, rows: Iterable[Mapping[str, Any]] | pd.DataFrame) -> pd.DataFrame:
        """The rows as a table with the columns and types of the contract, also where there is none; naive times are UTC."""
        schema = cls.to_schema()
        found = pd.DataFrame(rows if isinstance(rows, pd.DataFrame) else list(rows), columns=list(schema.columns))
        for name, column in schema.columns.items():
            if isinstance(getattr(column.dtype, "type", None), pd.DatetimeTZDtype):
                found[name] = pd.to_datetime(found[name], utc=True).astype("datetime64[us, UTC]")
        coerced: pd.DataFrame = schema.coerce_dtype(found)
        return coerced


class RawTable:
    """A source as it was read: values as text, each row with its file and number in it (row 1 is the first after the header).

    A `validator:` for Ibis tables: checks that the columns are there, without reading a row.
    """

    columns: frozenset[str] = frozenset({"farm_id", "source_file", "source_row", "fault"})

    def validate(self, data: Any) -> Any:
        """Return ``data`` if it has the columns; raise `ValueError` otherwise."""
        missing = self.columns - set(data.columns)
        if missing:
            raise ValueError(f"{type(self).__name__}: no column {', '.join(sorted(missing))}")
        return data
