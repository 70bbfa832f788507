"""Predictions of models that several entities have: one call for the rows of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.compute.limits import TimeLimitError, call_within
from wind_kedro.models.ensembles.fleet_model import Member


class Together:
    """Quantiles of models that several entities have, such as the fleet's: a call for each of a thousand entities takes minutes.

    Args:
        wanted: a model of an entity, and the features that it is to predict from; no row of the table of features twice for the
            same model.
        limit_seconds: a model that takes longer has failed, for all that have it; 0: without limit.
    """

    def __init__(self, wanted: Iterable[tuple[Member, pd.DataFrame]], limit_seconds: float) -> None:
        self._shares: dict[str, tuple[pd.Index, NDArray[np.float64]]] = {}
        self._late: dict[str, TimeLimitError] = {}
        self._limit = limit_seconds
        of_object: dict[str, list[tuple[Member, pd.DataFrame]]] = {}
        for member, rows in wanted:
            if member.object is not None and len(rows):
                of_object.setdefault(member.object, []).append((member, rows))
        for name, asked in of_object.items():
            if len(asked) > 1:
                self._predict(name, asked[0][0], pd.concat([rows for _, rows in asked]))

    def _predict(self, name: str, member: Member, rows: pd.DataFrame) -> None:
        try:
            self._shares[name] = rows.index, call_within(self._limit, partial(member.shares, rows, member.levels))
        except TimeLimitError as error:
            self._late[name] = error
        except Exception:  # noqa: S110 - it is asked again for each entity, and fails for those whose rows it cannot take
            pass

    def shares(self, member: Member, rows: pd.DataFrame, levels: Sequence[float]) -> NDArray[np.float64]:
        """`Member.shares`, within the limit.

        Raises:
            TimeLimitError: if the model does not return in time.
            Exception: whatever the model raises.
        """
        if member.object in self._late:
            raise self._late[member.object]
        if member.object in self._shares:
            index, known = self._shares[member.object]
            places = index.get_indexer(rows.index)
            if (places >= 0).all():
                return known[places][:, [member.levels.index(level) for level in levels]]
        return call_within(self._limit, partial(member.shares, rows, levels))
