"""A run killed at any of its write points leaves every table whole, and a rerun is as if nothing had happened.

The write points are found by running each pipeline once with instruments (`kills/zygote.py`). The whole proof is long
(`make proof-kills`); a few points of each kind are part of `make test`.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.datasets import tables_in

STAGES = (
    "data_engineering",
    "feature_engineering",
    "training",
    "forecasting",
    "monitoring",
    "notification",
    "reporting",
)
#: What was there before the run that is killed is of the first; every table differs between them.
EARLIER, LATER = "2024-03-28T12:00:00Z", "2024-03-30T12:00:00Z"
#: Columns that differ between two undisturbed runs: the wall clock, MLflow's ids of runs and versions, and signatures of them.
VOLATILE = {
    "recorded_at", "sha256", "previous_sha256", "sequence", "supersedes", "run_id", "model_version", "version", "promotion",
    "modified_ns", "model_run_id", "manifest_sha256", "signature",
}  # fmt: skip
#: Kept under the ids of their runs or their own digests: not tables of the catalog.
APART = {"kits", "objects"}
#: What a process leaves beside its target until it renames it.
LITTER = re.compile(r"\..*[0-9a-f]{32}.*")

Point = tuple[str, str]


class Zygote:
    """The process that forks the runs; see its module."""

    def __init__(self, keys: Path) -> None:
        script = Path(__file__).with_name("kills") / "zygote.py"
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "WIND_KEDRO_KEYS": str(keys)},
        )  # fmt: skip

    def run(self, folder: Path, *words: str, **order: Any) -> tuple[int, list[Point]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"folder": str(folder), "words": list(words), **order}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["status"], [tuple(point) for point in answer["points"]]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Every table that is there, its rows in an order of their own, without what no two runs share."""
    found = {}
    for name, table in tables_in(folder / "data", without=APART).items():
        plain = table[[column for column in table if column not in VOLATILE]].astype(str)
        found[name] = plain.sort_values(list(plain.columns), ignore_index=True)
    # Pages and figures name the hour at which they were made: of them it is asked that they are whole.
    for path in sorted((folder / "data/08_reporting").glob("[!.]*")):
        found[f"08_reporting/{path.name}"] = pd.DataFrame({"whole": [is_whole_document(path)]})
    return found


def is_whole_document(path: Path) -> bool:
    text = path.read_text("utf-8")
    if path.suffix != ".json":
        return text.rstrip().endswith("</html>")
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def changed(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> list[str]:
    """Names of tables that are not in both, or not the same in both."""
    return sorted(name for name in {*one, *other} if name not in one or name not in other or not one[name].equals(other[name]))


def of_records(names: list[str]) -> list[str]:
    """Without the files of logs and of the audit: a rerun adds an entry to them where the killed run had added one."""
    return [name for name in names if "/promotions/" not in name and "/audit/" not in name]


def rows_of(table: pd.DataFrame | None) -> set[tuple[str, ...]]:
    return set() if table is None else set(table.itertuples(index=False, name=None))


class Proof:
    """A small project as it is before and after each pipeline of a run, and what a kill does to it."""

    def __init__(self, folder: Path, kept: Path) -> None:
        # Restored with the tables: what was seen of a log, too, is as it was before the run.
        self.zygote = Zygote(folder / "keys")
        self.folder = folder
        self._kept = kept
        self.points: dict[str, list[Point]] = {}
        self._before: dict[str, dict[str, pd.DataFrame]] = {}
        self._after: dict[str, dict[str, pd.DataFrame]] = {}
        status, _ = self.zygote.run(folder, *self._words(None, EARLIER))
        assert status == 0, self.printed
        shutil.copytree(folder, kept / STAGES[0], symlinks=True)

    def prepare(self, stage: str) -> None:
        """Run the pipelines up to this one undisturbed, and keep what is there before and after each."""
        for one, following in zip(STAGES, [*STAGES[1:], "end"], strict=True):
            if one not in self.points:
                self.restore(one)
                self._before[one] = tables(self.folder)
                status, points = self.zygote.run(self.folder, *self._words(one))
                assert status == 0, self.printed
                self._after[one] = tables(self.folder)
                shutil.copytree(self.folder, self._kept / following, symlinks=True)
                self.points[one] = points
            if one == stage:
                return

    @property
    def printed(self) -> str:
        return Path(f"{self.folder}.log").read_text()

    def _words(self, stage: str | None, as_of: str = LATER) -> list[str]:
        return ["run", *(["--pipelines", stage] if stage else []), "--params", f"as_of={as_of}"]

    def restore(self, state: str) -> None:
        # In place: the store of MLflow is named by its whole path.
        shutil.rmtree(self.folder)
        shutil.copytree(self._kept / state, self.folder, symlinks=True)

    def kill(self, stage: str, number: int) -> dict[str, Any]:
        """Kill a run of a pipeline at one of its write points, run it again, and look."""
        self.prepare(stage)
        self.restore(stage)
        begun = time.monotonic()
        status, _ = self.zygote.run(self.folder, *self._words(stage), kill_at=number)
        torn = self._torn(stage)
        again, _ = self.zygote.run(self.folder, *self._words(stage))
        different = self._different(stage)
        kind, path = self.points[stage][number - 1]
        return {
            "pipeline": stage, "point": number, "kind": kind, "path": pattern(path), "killed": status == -9,
            "torn": " ".join(torn), "rerun": again, "different": " ".join(different), "litter": " ".join(self._litter()),
            "rerun_equal": status == -9 and not torn and again == 0 and not different and not self._litter(),
            "seconds": round(time.monotonic() - begun, 1),
        }  # fmt: skip

    def kill_after(self, seconds: float) -> dict[str, Any] | None:
        """Kill a run of everything after some time; none if it had ended by then."""
        self.restore(STAGES[0])
        begun = time.monotonic()
        status, _ = self.zygote.run(self.folder, *self._words(None), kill_after=seconds)
        if status != -9:
            return None
        again, _ = self.zygote.run(self.folder, *self._words(None))
        different = self._different(STAGES[-1])
        return {
            "pipeline": "all", "point": 0, "kind": "random", "path": f"after {seconds:.1f} s", "killed": True, "torn": "",
            "rerun": again, "different": " ".join(different), "litter": " ".join(self._litter()),
            "rerun_equal": again == 0 and not different and not self._litter(),
            "seconds": round(time.monotonic() - begun, 1),
        }  # fmt: skip

    def _different(self, stage: str) -> list[str]:
        """Tables that are not as after an undisturbed run, and the audit if its chain does not verify.

        That the chain of promotions verifies is asked by each run that reads it.
        """
        found = of_records(changed(tables(self.folder), self._after[stage]))
        if STAGES.index(stage) >= STAGES.index("forecasting") and self.zygote.run(self.folder, "wind", "verify")[0]:
            found.append("audit")
        return found

    def _torn(self, stage: str) -> list[str]:
        """Tables with a row that they neither had nor were to have: what is computed in parts may have some of the new ones."""
        left, before, after = tables(self.folder), self._before[stage], self._after[stage]
        known = {name: rows_of(before.get(name)) | rows_of(after.get(name)) for name in {*before, *after}}
        torn = [name for name, table in left.items() if not rows_of(table) <= known.get(name, set())]
        return of_records([*torn, *(set(before) - set(left))])

    def _litter(self) -> list[str]:
        found = [path for path in (self.folder / "data").rglob(".*") if path.name != ".index.json"]  # the audit's own
        return sorted({path.name for path in found if LITTER.fullmatch(path.name) or path.suffix == ".json"})


def pattern(path: str) -> str:
    """A path without what is another in each run."""
    return re.sub(r"[0-9a-f]{32,64}|\b[0-9]+-(?=\*)|m-\w+", "*", path)


@pytest.fixture(scope="module")
def proof(make_small_fleet: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proof]:
    made = Proof(make_small_fleet(), tmp_path_factory.mktemp("kept"))
    yield made
    made.zygote.close()


@pytest.mark.long
def test_two_undisturbed_runs_are_equal(proof: Proof) -> None:
    for stage in STAGES:
        proof.prepare(stage)
        proof.restore(stage)
        assert proof.zygote.run(proof.folder, *proof._words(stage))[0] == 0, proof.printed
        assert changed(tables(proof.folder), proof._after[stage]) == [], stage
        # Else a run that did nothing would pass.
        assert stage == "reporting" or changed(proof._before[stage], proof._after[stage]), stage


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "kind", "path"),
    [
        ("data_engineering", "delta begins", "02_intermediate/timed_signals"),
        ("data_engineering", "delta ends", "03_primary/observations/rows"),
        pytest.param("training", "os.link", "06_models/promotions", marks=pytest.mark.long),
        pytest.param("forecasting", "delta ends", "07_model_output/forecasts", marks=pytest.mark.long),
    ],
)
def test_a_rerun_after_a_kill_is_as_if_nothing_had_happened(proof: Proof, stage: str, kind: str, path: str) -> None:
    proof.prepare(stage)
    found = [
        number
        for number, (how, where) in enumerate(proof.points[stage], start=1)
        if how == kind and where.startswith(f"data/{path}")
    ]
    assert found, proof.points[stage]
    row = proof.kill(stage, found[-1])
    assert row["rerun_equal"], (row, proof.printed)


@pytest.mark.long
def test_a_kill_at_every_write_point_and_twenty_at_random(proof: Proof) -> None:
    target = os.environ.get("KILLS_CSV")
    rows = []

    def note(row: dict[str, Any]) -> None:
        rows.append(row)
        if target:
            with Path(target).open("a" if len(rows) > 1 else "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                if len(rows) == 1:
                    writer.writeheader()
                writer.writerow(row)

    only = os.environ.get("KILLS_ONLY", "").split()  # pipelines, while one looks for a fault
    for stage in only or STAGES:
        proof.prepare(stage)
        for number in range(1, len(proof.points[stage]) + 1):
            note(proof.kill(stage, number))
    if only:
        return
    proof.restore(STAGES[0])
    begun = time.monotonic()
    assert proof.zygote.run(proof.folder, *proof._words(None))[0] == 0, proof.printed
    took = time.monotonic() - begun
    moments = np.random.default_rng(20261129)
    left = 20
    while left:
        row = proof.kill_after(took * moments.uniform(0.05, 1))
        if row is None:  # the machine has less to do by now
            took *= 0.9
            continue
        note(row)
        left -= 1
    assert [row for row in rows if not row["rerun_equal"]] == []
