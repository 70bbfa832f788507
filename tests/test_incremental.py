"""Whatever the history of an environment, its tables are those of an empty one that is run once with the same inputs.

The test fleet's files are cut at random and land in a random order, rows of the past among them, while time goes on; a card is
corrected, a file is withdrawn and comes again. Faults, late rows, revisions and clock changes are the fleet's own.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from commands import type_in_turn
from wind_kedro.datasets import tables_in

PIPELINES = "data_engineering,feature_engineering"
#: Around the change of the clocks, from the beginning of a month on, and the end of the data.
TIMES = ("2024-03-20T09:00", "2024-03-31T13:00", "2024-04-01T00:10", "2024-04-10T00:00")
PARTS = 4
#: What says when a run took place, and by which process a file was seen.
VOLATILE = ["modified_ns", "first_seen_at"]


def run(folder: Path, *times: str) -> None:
    commands = [["run", "--env", "test", "--pipelines", PIPELINES, "--params", f"as_of={time}"] for time in times]
    type_in_turn(folder, *commands, allowed=(0, 1))  # 1: a source could not be read, as is right here


def cut(source: Path, target: Path, numbers: np.random.Generator) -> list[Path]:
    """Cut a table into files in ``target``: most of its rows in blocks of time, some anywhere."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".parquet":
        rows: Any = pd.read_parquet(source)
    else:
        header, *rows = gzip.decompress(source.read_bytes()).decode("latin-1").splitlines(keepends=True)
    part = np.minimum(np.arange(len(rows)) * PARTS // max(len(rows), 1), PARTS - 1)
    part = np.where(numbers.random(len(rows)) < 0.01, numbers.integers(0, PARTS, len(rows)), part)
    written = []
    for number in range(PARTS):
        path = target.with_name(target.name.replace(".", f"_part{number}.", 1))
        if source.suffix == ".parquet":
            rows[part == number].to_parquet(path, index=False)
        else:
            text = header + "".join(row for row, own in zip(rows, part, strict=True) if own == number)
            path.write_bytes(gzip.compress(text.encode("latin-1"), mtime=0))
        written.append(path)
    return written


def with_patterns(folder: Path) -> None:
    """Let the cards name the cut files."""
    path = folder / "conf/test/farms.yml"
    cards = yaml.safe_load(path.read_text("utf-8"))
    for farm in cards["farms"]:
        for source in (farm["signals"], *farm["weather"]):
            stem, _, suffix = source["path"].partition(".")
            source["path"] = f"{stem.removesuffix('_*')}*.{suffix}"
    path.write_text(yaml.safe_dump(cards, sort_keys=False, allow_unicode=True), encoding="utf-8")


def correct(folder: Path, latency_minutes: int) -> None:
    path = folder / "conf/test/farms.yml"
    cards = yaml.safe_load(path.read_text("utf-8"))
    cards["farms"][1]["latency_minutes"] = latency_minutes
    path.write_text(yaml.safe_dump(cards, sort_keys=False, allow_unicode=True), encoding="utf-8")


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    found = {}
    for name, table in tables_in(folder / "data/test", without={"raw_rows"}).items():
        own = table.drop(columns=VOLATILE, errors="ignore")
        arrays = [column for column in own if isinstance(own[column].iloc[:1].squeeze(), np.ndarray)]
        keys = [column for column in own if column not in arrays and not pd.api.types.is_float_dtype(own[column])]
        own = own.sort_values([*keys, *own.columns.difference([*keys, *arrays])], ignore_index=True)
        for column in arrays:  # compared as numbers, one a row
            found[f"{name}:{column}"] = pd.DataFrame({column: np.concatenate([[0.0], *own.pop(column)])})
        found[name] = own
    return found


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 10))
def test_any_history_ends_as_a_rebuild(make_checkout: Callable[[], Path], seed: int) -> None:
    numbers = np.random.default_rng(seed)
    folder, anew = make_checkout(), make_checkout()
    whole, raw = folder / "whole", folder / "data/test/01_raw"
    raw.rename(whole)
    cuts = folder / "cuts"
    files = []
    for source in sorted(whole.glob("*/*")):
        files += cut(source, cuts / source.relative_to(whole), numbers)
    with_patterns(folder)
    # The first parts of every table are there at first; the others land in any order.
    first = [path for path in files if "_part0." in path.name or "_part1." in path.name]
    later = [files[place] for place in numbers.permutation(len(files)) if files[place] not in first]
    landings = [first, *(list(some) for some in np.array_split(np.array(later, dtype=object), len(TIMES) - 1))]
    withdrawn = first[int(numbers.integers(len(first)))]
    for step, (time, landed) in enumerate(zip(TIMES, landings, strict=True)):
        for path in landed:
            target = raw / path.relative_to(cuts)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        if step == 1:
            (raw / withdrawn.relative_to(cuts)).unlink()
        if step == 2:
            correct(folder, latency_minutes=25)
            shutil.copy(withdrawn, raw / withdrawn.relative_to(cuts))
        run(folder, time)
    shutil.rmtree(anew / "data/test/01_raw")
    shutil.copytree(raw, anew / "data/test/01_raw")
    shutil.copy(folder / "conf/test/farms.yml", anew / "conf/test/farms.yml")
    run(anew, TIMES[-1])
    found, expected = tables(folder), tables(anew)
    assert set(found) == set(expected)
    for name, table in expected.items():
        pd.testing.assert_frame_equal(found[name], table, rtol=1e-9, atol=1e-12, check_like=True, obj=name)
    assert len(expected["03_primary/observations"]) > 1000
