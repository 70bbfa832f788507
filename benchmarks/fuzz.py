"""Hostile files, cards and payloads from a seed, run in a small real project: nothing lost, nothing wrong, nobody else stopped.

Every case is made of its class, its number and the seed, and is judged by what its generator knows of it. Run one again with
``make fuzz CLASSES=signals_text CASE=17``: its project is kept, and its error stream is shown.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fuzzing.cases import Case, Result, run_cases
from fuzzing.oracle import BAD, VERDICTS
from fuzzing.project import World, make_world, warm_up
from record import RESULTS, record

#: The modules of `fuzzing` by the class of cases that they make.
CLASSES = {
    "signals_text": "signals",
    "signals_tables": "tables",
    "weather": "weather",
    "cards": "cards",
    "payloads": "payloads",
    "store": "store",
    "cli": "options",
}
#: Those whose cases are a farm each.
TOGETHER = {"signals_text", "signals_tables", "weather"}
SEED = 20261129
#: How far the suite is is shown after so many cases.
_SHOWN_EVERY = 20


def numbers_of(kind: str, count: int | None) -> range:
    """The numbers of a class's cases: the first so many, or all."""
    return range(importlib.import_module(f"fuzzing.{CLASSES[kind]}").COUNT if count is None else count)


def make_case(world: World, kind: str, seed: int, number: int) -> Case:
    """The case of a class, a seed and a number."""
    case: Case = importlib.import_module(f"fuzzing.{CLASSES[kind]}").make(world, seed, number)
    return case


def summary(results: Sequence[Result]) -> pd.DataFrame:
    """One row per class: how many were tried, and how they ended."""
    rows = []
    for kind in dict.fromkeys(result.case.kind for result in results):
        own = [result for result in results if result.case.kind == kind]
        verdicts = [result.verdict.verdict for result in own]
        row = {"class": kind, "tried": len(own)} | {name: verdicts.count(name) for name in VERDICTS}
        rows.append(row | {"seed": own[0].case.seed})
    return pd.DataFrame(rows, columns=["class", "tried", *VERDICTS, "seed"])


def write_down(measured: pd.DataFrame, folder: Path = RESULTS) -> Path:
    """Write rows to fuzz.csv; rows of other classes and seeds, which were not measured now, stay as they are."""
    path = folder / "fuzz.csv"
    before = pd.read_csv(path) if path.is_file() else None
    record("fuzz", measured, folder)
    if before is not None:
        keys = set(zip(measured["class"], measured["seed"], strict=True))
        kept = before[[key not in keys for key in zip(before["class"], before["seed"], strict=True)]]
        every = pd.concat([kept, pd.read_csv(path)], ignore_index=True)
        order = {kind: place for place, kind in enumerate(CLASSES)}
        every = every.sort_values("class", key=lambda column: column.map(order), kind="stable")
        every.to_csv(path, index=False, lineterminator="\n")
    return path


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", default=",".join(CLASSES), help="of " + ", ".join(CLASSES))
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--n", type=int, help="so many cases of each class; without it, all")
    parser.add_argument("--case", type=int, help="only this number of a class; its project is kept, its errors are shown")
    parser.add_argument("--only", help="only these: class:number,class:number")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--batch", type=int, default=8, help="farms in one run")
    parser.add_argument("--keep", action="store_true", help="leave the projects of all cases")
    parser.add_argument("--json", type=Path, help="write the verdicts there, too")
    options = parser.parse_args()
    kinds = options.classes.split(",")
    if options.only:
        options.chosen = [(kind, int(number)) for kind, number in (one.split(":") for one in options.only.split(","))]
        kinds = [kind for kind, _ in options.chosen]
    for kind in kinds:
        if kind not in CLASSES:
            parser.error(f"no class '{kind}'; there are {', '.join(CLASSES)}")
    if options.case is not None:
        options.chosen = [(kind, options.case) for kind in kinds]
    elif not options.only:
        options.chosen = [(kind, number) for kind in kinds for number in numbers_of(kind, options.n)]
    options.whole = options.case is None and not options.only and options.n is None
    return options


def main() -> int:
    """Run the suite; 1 if anything ended in one of the last four ways."""
    options = _options()
    begun = time.monotonic()
    warm_up()
    folder = Path(tempfile.mkdtemp(prefix="wind-kedro-fuzz-"))
    world = make_world(folder)
    results: list[Result] = []
    single = options.case is not None
    running = run_cases(
        world,
        options.chosen,
        lambda kind, number: make_case(world, kind, options.seed, number),
        folder,
        together=TOGETHER,
        jobs=options.jobs,
        batch=options.batch,
        keep=options.keep or single,
    )
    for result in running:
        results.append(result)
        if result.verdict.verdict in BAD or single:
            print(
                f"{result.verdict.verdict}: {result.case.title}: {result.verdict.why}\n    {result.case.again}",
                flush=True,
            )
        if single:
            print(result.log)
        if len(results) % _SHOWN_EVERY == 0:
            print(
                f"{len(results)} of {len(options.chosen)} after {time.monotonic() - begun:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    place = {chosen: number for number, chosen in enumerate(options.chosen)}
    results.sort(key=lambda result: place[result.case.kind, result.case.number])
    if options.json:
        rows = [[r.case.kind, r.case.number, r.case.names, r.verdict.verdict, r.verdict.why] for r in results]
        options.json.write_text(json.dumps(rows))
    table = summary(results)
    print(f"\n{len(results)} cases in {time.monotonic() - begun:.0f} s; projects were in {folder}")
    if options.whole:
        write_down(table)
    else:
        print(table.to_string(index=False))
    return int(any(result.verdict.verdict in BAD for result in results))


if __name__ == "__main__":
    sys.exit(main())
