"""Newer libraries, taken only if they change no forecast or make them better.

Locks the newest versions that `pyproject.toml` allows beside the lock in use, builds their environment beside the present one,
runs the checks in it, and backtests the newest training in both: the same rows, the same issues, every candidate refitted in
each fold. The new lock is taken if every product and entity forecasts the same within a tolerance, or so much better that the
gate would let it through; else the old one stays, and the libraries are tried one by one to say which broke what.

Usage: python benchmarks/upgrade.py [--env NAME] [--checks COMMAND] [--find-links FOLDER] [--only LIBRARY]   (`make upgrade`)
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.training import REASONS
from wind_kedro.datasets.derived import frame_of
from wind_kedro.evaluation.gate import by_issue, judge, mark_extremes
from wind_kedro.evaluation.scores import interval_losses
from wind_kedro.evaluation.settings import GateRules
from wind_kedro.models.tables import KEYS
from wind_kedro.rebuild.clean import CannotRebuildError, make_environment

#: Quantiles that differ by less, as a share of capacity, are the same: the last bits of a sum may follow the library.
TOLERANCE_SHARE = 1e-6
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


@dataclass
class Trial:
    """What a lock came to: faults, one line each; none: it may be taken."""

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def pins(lock: str) -> dict[str, str]:
    """Versions by library. A lock for several Pythons may pin one twice; both are told."""
    found: dict[str, list[str]] = {}
    for name, version in _PIN.findall(lock):
        found.setdefault(name, []).append(version)
    return {name: " ".join(sorted(versions)) for name, versions in found.items()}


def changes(old: str, new: str) -> dict[str, tuple[str, str]]:
    """Libraries whose version differs between two locks; `-`: not in it."""
    before, after = pins(old), pins(new)
    names = sorted({*before, *after})
    return {name: (before.get(name, "-"), after.get(name, "-")) for name in names if before.get(name) != after.get(name)}


def compare_backtests(
    old: pd.DataFrame,
    new: pd.DataFrame,
    observations: pd.DataFrame,
    features: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    rules: GateRules,
    tolerance_share: float = TOLERANCE_SHARE,
) -> Trial:
    """Whether new forecasts may take the place of old: of every entity and candidate the same, or let through by the gate."""
    trial = Trial()
    keys = [*KEYS, "model"]
    if len(old) != len(new) or old[keys].merge(new[keys], on=keys).shape[0] != len(old):
        trial.faults.append(f"the backtest has other rows: {len(old):,} before, {len(new):,} after")
        return trial
    after = old[keys].merge(new, on=keys, validate="one_to_one")
    apart = _apart(old, after).groupby([old["product_id"], old["entity_id"], old["model"]]).max()
    differ = apart[apart > tolerance_share]
    found = _judge(old, after, observations, features, fleet, clock, rules)
    for (product_id, entity_id, model), most in differ.items():
        about = f"{product_id}/{entity_id} '{model}'"
        if np.isinf(most):  # of what is not a number no loss would tell
            trial.faults.append(f"{about}: forecasts that were there are missing, or the other way round")
            continue
        told = f"{about}: forecasts up to {most:.2g} of capacity apart"
        if (about_it := found.get((product_id, _name(entity_id, model)))) is None:
            trial.faults.append(f"{told}, and none can be scored yet")
            continue
        told += f", loss {-about_it['gain_share']:+.2%}: {REASONS[about_it['code']]}"
        (trial.notes if about_it["code"] == "better" else trial.faults).append(told)
    return trial


def _apart(old: pd.DataFrame, after: pd.DataFrame) -> pd.Series:
    """By row how far quantiles lie apart at most, as a share of capacity; without bound where a number is lost or new."""
    columns = [name for name in old if re.fullmatch(r"q\d{3}_kw", name)]
    before, now = old[columns].to_numpy(float), after[columns].to_numpy(float)
    most = np.nan_to_num(np.abs(before - now) / old[["capacity_kw"]].to_numpy(float)).max(axis=1)
    return pd.Series(np.where((np.isnan(before) != np.isnan(now)).any(axis=1), np.inf, most), index=old.index)


def _judge(
    old: pd.DataFrame,
    new: pd.DataFrame,
    observations: pd.DataFrame,
    features: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    rules: GateRules,
) -> dict[tuple[str, str], dict[str, Any]]:
    """What the gate says of new libraries as challengers of old ones; all candidates of a product's entities are one family."""
    found = {}
    for product in fleet.products:
        parts = []
        for model in old.loc[old["product_id"] == product.id, "model"].unique():
            sides = [
                table[(table["product_id"] == product.id) & (table["model"] == model)].assign(model=side)
                for side, table in (("old", old), ("new", new))
            ]
            parts.append(
                interval_losses(
                    pd.concat(sides, ignore_index=True),
                    observations,
                    product,
                    fleet.market(product.market),
                    clock.as_of,
                ).assign(candidate=model)
            )
        if not parts:
            continue
        marked = mark_extremes(pd.concat(parts, ignore_index=True), features, rules)
        named = [_name(entity_id, model) for entity_id, model in zip(marked["entity_id"], marked["candidate"], strict=True)]
        issues = by_issue(marked.assign(entity_id=named))
        champions = dict.fromkeys(issues["entity_id"], "old")
        judged = judge(issues, champions, product.promotion_margin_share, product.horizon_minutes, rules)
        found |= {(row["product_id"], row["entity_id"]): row for row in judged.to_dict("records")}
    return found


def _name(entity_id: object, model: object) -> str:
    return f"{entity_id} '{model}'"


def guilty(changed: Mapping[str, tuple[str, str]], attempt: Callable[[str], list[str]]) -> dict[str, list[str]]:
    """By library what its new version alone breaks.

    Args:
        changed: old and new versions.
        attempt: tries one library's new version in the old lock; what broke.
    """
    found = {name: attempt(name) for name in changed}
    return {name: faults for name, faults in found.items() if faults}


@dataclass(frozen=True)
class Upgrade:
    """One attempt to upgrade a checkout."""

    project: Path
    environment: str
    checks: str
    find_links: list[str]
    only: list[str] = field(default_factory=list)

    def lock(self, target: Path, *upgrade: str) -> None:
        """Lock into ``target``, from what stands there: everything newer, or only what is named."""
        command = [
            self._uv, "pip", "compile", "pyproject.toml", "--extra", "dev", "--universal", "--python-version", "3.11",
            "--generate-hashes", "--no-emit-index-url", "--no-header", "--quiet", *self._links, *upgrade,
            "--output-file", str(target),
        ]  # fmt: skip
        subprocess.run(command, cwd=self.project, check=True, stdout=subprocess.DEVNULL)

    def backtest(self, python: Path, target: Path) -> str:
        """Backtest with an environment's libraries; what went wrong, or nothing."""
        words = [str(python), "-m", "wind_kedro.rebuild.backtesting", self.environment, str(target)]
        done = subprocess.run(words, cwd=self.project, capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else f"the backtest fails: {_last_line(done)}"

    def attempt(self, lock: Path, folder: Path, old: pd.DataFrame) -> Trial:
        """Build a lock's environment in ``folder``, check it, and hold its backtest against the old one."""
        shutil.rmtree(folder, ignore_errors=True)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        try:
            python = make_environment(folder, lock, self.project, version, *self._links)
        except CannotRebuildError as error:
            return Trial([f"the environment cannot be built: {error}"])
        trial = Trial()
        for check in filter(None, self.checks.split(";")):
            words = [str(python), *shlex.split(check)]
            done = subprocess.run(words, cwd=self.project, capture_output=True, text=True, check=False)
            if done.returncode:
                trial.faults.append(f"the check '{check.strip()}' fails: {_last_line(done)}")
        with tempfile.TemporaryDirectory() as aside:
            fault = self.backtest(python, Path(aside) / "new.parquet")
            if fault:
                trial.faults.append(fault)
                return trial
            found = compare_backtests(old, pd.read_parquet(Path(aside) / "new.parquet"), *self.judged_by())
        return Trial(trial.faults + found.faults, found.notes)

    def judged_by(self) -> tuple[pd.DataFrame, pd.DataFrame, Fleet, Clock, GateRules]:
        """Observations, features, cards, clock and the gate's rules of the environment."""
        from kedro.framework.session import KedroSession
        from kedro.framework.startup import bootstrap_project

        bootstrap_project(self.project)
        with KedroSession.create(project_path=self.project, env=self.environment, save_on_close=False) as session:
            catalog = session.load_context().catalog
            names = ("observations", "features", "params:fleet", "params:clock", "params:training")
            observations, features, fleet, clock, training = (catalog.load(name) for name in names)
        return frame_of(observations), frame_of(features), fleet, clock, training.gate

    @property
    def _uv(self) -> str:
        return shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"

    @property
    def _links(self) -> list[str]:
        return [word for folder in self.find_links for word in ("--find-links", folder)]


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return ((done.stderr or "").strip() or (done.stdout or "").strip() or "no word").splitlines()[-1][:300]


def upgrade(job: Upgrade) -> int:
    """The exit code: 0 if the lock is new or nothing is newer, 1 if the old one stays."""
    lock = job.project / "requirements.lock"
    before = lock.read_text("utf-8")
    side, folder = job.project / ".venv-next.lock", job.project / ".venv-next"
    try:
        shutil.copy(lock, side)
        job.lock(side, *([word for name in job.only for word in ("--upgrade-package", name)] or ["--upgrade"]))
        changed = changes(before, side.read_text("utf-8"))
        if not changed:
            print("Nothing newer than requirements.lock.")
            return 0
        print("\n".join(f"{name}: {old} -> {new}" for name, (old, new) in changed.items()))
        with tempfile.TemporaryDirectory() as aside:
            fault = job.backtest(Path(sys.executable), Path(aside) / "old.parquet")
            if fault:
                print(f"With the libraries in use {fault}: train first (kedro run --pipeline training).")
                return 1
            old = pd.read_parquet(Path(aside) / "old.parquet")
        trial = job.attempt(side, folder, old)
        print("\n".join(trial.notes))
        if not trial.faults:
            first = before.splitlines()[0]  # what the lock was made from: that did not change
            body = "".join(line for line in side.read_text("utf-8").splitlines(True) if not line.startswith("# made from"))
            lock.write_text((f"{first}\n" if first.startswith("# made from") else "") + body, encoding="utf-8")
            print(f"requirements.lock is new: {len(changed)} libraries; make environment installs them.")
            return 0
        print("\n".join(trial.faults))

        def alone(name: str) -> list[str]:
            shutil.copy(lock, side)
            try:
                job.lock(side, "--upgrade-package", name)
            except subprocess.CalledProcessError:
                return []  # it does not go alone: what it needs is tried by its own name
            return job.attempt(side, folder, old).faults

        broke = guilty({name: versions for name, versions in changed.items() if "-" not in versions}, alone)
        for name, faults in broke.items():
            print(f"{name} {changed[name][0]} -> {changed[name][1]} breaks: {faults[0]}")
        if not broke:
            print("No library breaks anything alone: it is their combination.")
        print("requirements.lock stays as it was.")
        return 1
    finally:
        side.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Read the words and upgrade."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--env", default="test", help="whose newest training is backtested")
    parser.add_argument(
        "--checks",
        default="-m pytest -q -m 'not slow and not long' tests/models tests/evaluation/test_scores.py tests/rebuild",
        help="what is run by the new Python, separated by ';'",
    )
    parser.add_argument("--find-links", action="append", default=[], help="a folder of wheels besides the index")
    parser.add_argument("--only", action="append", default=[], help="a library; without, all are made newer")
    words = parser.parse_args()
    project = Path(__file__).resolve().parents[1]
    return upgrade(Upgrade(project, words.env, words.checks, words.find_links, words.only))


if __name__ == "__main__":
    sys.exit(main())
