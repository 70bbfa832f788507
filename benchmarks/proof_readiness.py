"""Whether readiness finds the farm whose weather point is wrong: in GEFCom2014 wind, zone 1, and no other.

The zone comes with weather that fits its power worse than its neighbours' does; the other nine are sound, and two pairs
of them share one series. `data_engineering` runs as for any farm, and its own tables, `readiness` and `weather_fit`, are read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from gefcom2014 import ENVIRONMENT, RAW, bring_in, run
from record import PROJECT, record

AS_OF = "2013-07-02T00:00:00Z"
WRONG = {"zone_1"}


def table_of(readiness: pd.DataFrame, weather_fit: pd.DataFrame) -> pd.DataFrame:
    """One row per farm, as last assessed: its own point, the best of the others', and whether its own is suspected."""
    last = readiness["assessed_at"].max()
    known = readiness[readiness["assessed_at"] == last].set_index("farm_id")
    fit = weather_fit[weather_fit["assessed_at"] == last].dropna(subset="correlation")
    others = fit[fit["of_farm"] != fit["farm_id"]].sort_values("rank", kind="stable").drop_duplicates("farm_id")
    better = others.set_index("farm_id")["better_months_share"]
    hours = fit[fit["of_farm"] == fit["farm_id"]].groupby("farm_id")["hours"].max()
    table = pd.DataFrame(
        {
            "own_correlation": known["best_correlation"].round(3),
            "other_farm": known["other_farm"],
            "other_correlation": known["other_correlation"].round(3),
            "better_months_share": better.round(3),
            "hours": hours,
            "wrong_point": known["wrong_point"],
            "tier": known["tier"],
        }
    )
    return table.loc[sorted(table.index, key=lambda name: int(name.rpartition("_")[2]))].rename_axis("farm_id").reset_index()


def failures(table: pd.DataFrame) -> list[str]:
    """What the proof does not show: the farm that is to be found and is not, and those that are found and sound."""
    flagged = set(table.loc[table["wrong_point"], "farm_id"])
    return [f"{name} is not found" for name in sorted(WRONG - flagged)] + [
        f"{name} is found, and its point is right" for name in sorted(flagged - WRONG)
    ]


def main() -> int:
    """Run the proof; 1 if it fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=RAW, help="folder of the competition's Parquet files")
    bring_in(parser.parse_args().data)
    run({"as_of": AS_OF}, "--pipeline", "data_engineering")
    made = PROJECT / "data" / ENVIRONMENT / "03_primary"
    table = table_of(pd.read_parquet(made / "readiness.parquet"), pd.read_parquet(made / "weather_fit.parquet"))
    record("proof-readiness", table)
    wrong = failures(table)
    print("\n".join(wrong) or "the wrong point is found, and no other is suspected")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
