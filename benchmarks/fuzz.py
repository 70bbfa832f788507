"""Hostile files, cards and payloads from a seed, run in a small real project: nothing lost, nothing wrong, nobody else stopped.

Every case is made of its class, its number and the seed, and is judged by what its generator knows of it. Run one again with
``python benchmarks/fuzz.py --classes signals_text --case 17 --seed 1 --keep``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fuzzing.cases import Case, Result, run_cases
from fuzzing.oracle import VERDICTS
from fuzzing.project import World, make_world, warm_up
from record import RESULTS, record

CLASSES = {
    "signals_text": "signals",
    "signals_tables": "tables",
    "cards": "cards",
    "payloads": "payloads",
    "cli": "options",
}
SEED = 20261129


def cases_of(world: World, kind: str, seed: int, count: int | None, case: int | None) -> list[Case]:
    """The cases of a class: one, the first so many, or all."""
    module = importlib.import_module(f"fuzzing.{CLASSES[kind]}")
    numbers = [case] if case is not None else range(module.COUNT if count is None else count)
    return [module.make(world, seed, number) for number in numbers]


def summary(results: Sequence[Result]) -> pd.DataFrame:
    """One row per class: how many were tried, and how they ended."""
    rows = []
    for kind in dict.fromkeys(result.case.kind for result in results):
        own = [result.verdict.verdict for result in results if result.case.kind == kind]
        rows.append({"class": kind, "tried": len(own)} | {name: own.count(name) for name in VERDICTS})
    return pd.DataFrame(rows, columns=["class", "tried", *VERDICTS])


def merged(measured: pd.DataFrame, folder: Path = RESULTS) -> pd.DataFrame:
    """The measured rows, and of classes that were not measured those that are written down."""
    path = folder / "fuzz.csv"
    if not path.is_file():
        return measured
    before = pd.read_csv(path)
    return pd.concat([before[~before["class"].isin(measured["class"])], measured], ignore_index=True)


def main() -> int:
    """Run the suite; 1 if anything ended in one of the last four ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", default=",".join(CLASSES), help="of " + ", ".join(CLASSES))
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--n", type=int, help="so many cases of each class; without it, all")
    parser.add_argument(
        "--case", type=int, help="only this number of a class; its project is kept and its errors shown"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8, help="farms in one run")
    parser.add_argument("--keep", action="store_true", help="leave the projects of all cases")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/fuzz.csv")
    options = parser.parse_args()
    kinds = options.classes.split(",")
    for kind in kinds:
        if kind not in CLASSES:
            parser.error(f"no class '{kind}'; there are {', '.join(CLASSES)}")
    begun = time.monotonic()
    warm_up()
    folder = Path(tempfile.mkdtemp(prefix="wind-kedro-fuzz-"))
    world = make_world(folder)
    cases = [case for kind in kinds for case in cases_of(world, kind, options.seed, options.n, options.case)]
    results = []
    keep = options.keep or options.case is not None
    for result in run_cases(world, cases, folder, jobs=options.jobs, batch=options.batch, keep=keep):
        results.append(result)
        if result.verdict.verdict not in {"right", "clear_error"} or options.case is not None:
            print(
                f"{result.verdict.verdict}: {result.case.title}: {result.verdict.why}\n    {result.case.again}",
                flush=True,
            )
        if options.case is not None:
            print(result.log)
    results.sort(key=lambda result: (kinds.index(result.case.kind), result.case.number))
    table = summary(results)
    whole = options.n is None and options.case is None
    print(f"\n{len(results)} cases in {time.monotonic() - begun:.0f} s; projects are in {folder}")
    if whole and options.record:
        record("fuzz", merged(table))
    else:
        print(table.to_string(index=False))
    return int(table[list(VERDICTS[2:])].to_numpy().sum() > 0)


if __name__ == "__main__":
    sys.exit(main())
