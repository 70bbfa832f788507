"""``python -m wind_kedro.rebuild.backtesting ENVIRONMENT FILE``: repeat the backtest of an environment's training.

Reads what the last training left, writes nothing of the project: two environments can backtest the same issues side by side.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd

#: The node that is run again: all folds are computed, not only those that are missing.
BACKTEST = "backtest.backtest_candidates"


def backtest(environment: str, project: Path) -> pd.DataFrame:
    """Backtest forecasts of the candidates with the libraries of this process."""
    from kedro.framework.project import pipelines
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(project)
    with KedroSession.create(project_path=project, env=environment, save_on_close=False) as opened:
        session: Any = opened  # typed as its abstract base, which has no context
        catalog = session.load_context().catalog
        (node,) = pipelines["training"].only_nodes(BACKTEST).nodes
        made = node.run({name: catalog.load(name) for name in node.inputs})
    recipe = made[node.outputs[0]]
    table: pd.DataFrame = recipe.work(recipe.wanted)
    return table


if __name__ == "__main__":
    backtest(sys.argv[1], Path.cwd()).to_parquet(sys.argv[2], index=False)
