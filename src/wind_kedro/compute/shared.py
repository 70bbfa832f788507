"""Arguments that many tasks share: with workers of Dask they are sent once, and not with every task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a table. The function of a task gets the rows themselves.

    ``places`` are their positions, in the order in which they are wanted. With workers of Dask only these travel with the task,
    and the table once for all tasks that have rows of this very object. With processes, rows are copied when the task is sent.
    """

    table: pd.DataFrame
    places: NDArray[np.intp]

    @classmethod
    def where(cls, table: pd.DataFrame, mask: ArrayLike) -> Rows:
        """Those of which the mask is true."""
        return cls(table, np.flatnonzero(mask))

    def __len__(self) -> int:
        return len(self.places)

    def take(self) -> pd.DataFrame:
        """A table of these rows."""
        return self.table.iloc[self.places]


@dataclass(frozen=True, eq=False)
class Shared:
    """An object that many tasks get, such as a model of the whole fleet. The function of a task gets the object itself."""

    value: Any
