"""Models that several entities have predict once for all of them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.compute.limits import TimeLimitError
from wind_kedro.models.ensembles.fleet_model import Member
from wind_kedro.pipelines.forecasting.together import Together

LEVELS = [0.1, 0.5, 0.9]


@dataclass(eq=False)
class Counted(Member):
    """A member that counts the rows of its calls; those of farm ``bad`` it cannot take."""

    calls: list[int] = field(default_factory=list)
    wait_for: threading.Event | None = None

    @property
    def levels(self) -> list[float]:
        return LEVELS

    @property
    def object(self) -> str | None:
        return self.model

    def shares(self, rows: pd.DataFrame, levels: Any) -> Any:
        self.calls.append(len(rows))
        if self.wait_for is not None:
            self.wait_for.wait()
        if (rows["farm"] == "bad").any():
            raise ValueError("cannot take it")
        return rows["speed"].to_numpy()[:, None] * [LEVELS.index(level) + 1 for level in levels]


def rows_of(**farms: int) -> dict[str, pd.DataFrame]:
    every = pd.concat([pd.DataFrame({"farm": farm, "speed": np.arange(rows) + 1.0}) for farm, rows in farms.items()])
    return dict(iter(every.reset_index(drop=True).groupby("farm")))


def test_a_model_of_several_entities_is_called_once_and_each_has_its_own_rows() -> None:
    member, other = Counted("shared", None), Counted("own", None)
    rows = rows_of(hill=3, shore=2, plain=4)
    together = Together([(member, rows["hill"]), (member, rows["shore"]), (other, rows["plain"])], 0)
    assert (member.calls, other.calls) == ([5], [])
    for name in ("hill", "shore"):
        found = together.shares(member, rows[name].iloc[1:], [0.9, 0.1])
        np.testing.assert_array_equal(found, rows[name]["speed"].to_numpy()[1:, None] * [3, 1])
    assert together.shares(other, rows["plain"], LEVELS).shape == (4, 3)
    assert (member.calls, other.calls) == ([5], [4])


def test_rows_that_a_model_cannot_take_fail_alone() -> None:
    member, rows = Counted("shared", None), rows_of(hill=3, bad=2)
    together = Together([(member, rows["hill"]), (member, rows["bad"])], 0)
    assert together.shares(member, rows["hill"], LEVELS).shape == (3, 3)
    with pytest.raises(ValueError, match="cannot take it"):
        together.shares(member, rows["bad"], LEVELS)


def test_a_model_that_does_not_return_is_waited_for_once() -> None:
    over = threading.Event()
    member, rows = Counted("shared", None, wait_for=over), rows_of(hill=3, shore=2)
    together = Together([(member, rows["hill"]), (member, rows["shore"])], 0.05)
    for own in rows.values():
        with pytest.raises(TimeLimitError):
            together.shares(member, own, LEVELS)
    assert member.calls == [5]
    over.set()  # a thread that was given up would be found by the tests of limits
