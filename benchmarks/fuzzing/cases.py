"""Cases and how they are run: a few at a time, many farms in one run where that tells the same, each alone where it does not."""

from __future__ import annotations

import shutil
import time
import zlib
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from .oracle import BAD, Verdict, faults_of_the_end, others_changed, worst
from .project import LIMIT_SECONDS, Ended, Job, World, start, tables

Step = Callable[[], "int | None"]


def generator(kind: str, number: int, seed: int) -> np.random.Generator:
    """The random numbers of one case: of its class, number and seed alone."""
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), number])


@dataclass
class Case:
    """A hostile input: how it is put into a project, what is run there, and whether that ended as it should.

    Attributes:
        kind: its class.
        number: its number in the class.
        seed: what it was made from.
        names: what is hostile about it.
    """

    kind: str
    number: int
    seed: int
    names: list[str]

    #: Whether it starts from the project in which models were trained.
    trained = False
    limit_seconds = LIMIT_SECONDS
    #: Tables of which the rows of other farms must be the same; none: not compared.
    compared: ClassVar[tuple[str, ...]] = ("observations", "signals", "weather", "data_quality", "readiness")

    def prepare(self, project: Path) -> None:
        """Put it into a project."""
        raise NotImplementedError

    def steps(self) -> list[Step]:
        """What is run, one forked process each."""
        raise NotImplementedError

    @property
    def spoilt(self) -> set[str]:
        """Farms and groups whose tables may be others than undisturbed."""
        return set()

    def between(self, project: Path, step: int) -> None:
        """What happens before a step."""

    def close(self) -> None:
        """End what `prepare` started."""

    def judge(self, project: Path, ended: list[Ended], found: dict[str, pd.DataFrame], *, alone: bool) -> Verdict:
        """The verdict on it, once nothing is wrong with others."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """What it is called, with how to run it again."""
        return f"{self.kind} {self.number} ({', '.join(self.names)})"

    @property
    def again(self) -> str:
        """The command that runs it again."""
        return f"make fuzz CLASSES={self.kind} SEED={self.seed} CASE={self.number}"


@dataclass
class Result:
    """A case with its verdict."""

    case: Case
    verdict: Verdict
    seconds: float
    log: str = ""


@dataclass
class _Unit:
    """Cases that run in one project."""

    cases: Sequence[Case]
    folder: Path
    job: Job | None = None
    steps: list[Step] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    begun: float = 0.0


#: Class and number of a case.
Name = tuple[str, int]


def run_cases(
    world: World,
    names: Sequence[Name],
    make: Callable[[str, int], Case],
    folder: Path,
    *,
    together: Container[str],
    jobs: int,
    batch: int,
    keep: bool = False,
) -> Iterator[Result]:
    """Run cases, some at a time.

    Args:
        world: the project that each starts from a copy of.
        names: what is run.
        make: makes a case; called when its turn has come, and again for another run of it.
        folder: where the copies are made.
        together: classes whose cases are a farm of their own, many of which can be put into one run.
        jobs: how many processes at a time.
        batch: how many farms are put into one run. A run with more than one whose verdict is not good is run again, each alone.
        keep: leave the projects there.
    """
    farms = [name for name in names if name[0] in together]
    waiting = [farms[at : at + batch] for at in range(0, len(farms), batch)]
    waiting += [[name] for name in names if name[0] not in together]
    working: list[_Unit] = []
    made = 0
    while waiting or working:
        while waiting and len(working) < jobs:
            made += 1
            cases = [make(*name) for name in waiting.pop(0)]
            working.append(_begin(world, cases, folder / f"{made:05d}"))
        for unit in list(working):
            assert unit.job is not None  # noqa: S101 - it was started
            ended = unit.job.poll()
            if ended is None:
                continue
            unit.ended.append(ended)
            if len(unit.ended) < len(unit.steps) and not ended.killed:
                _next_step(unit)
                continue
            working.remove(unit)
            for case in unit.cases:
                case.close()
            results = _judge(world, unit)
            bad = [result for result in results if result.verdict.verdict in BAD]
            if len(unit.cases) > 1 and bad:
                # A run that failed for all proves nothing of each; the verdict on a case alone is certain.
                again = [result.case for result in (results if _failed_for_all(bad) else bad)]
                waiting = [[(case.kind, case.number)] for case in again] + waiting
                results = [result for result in results if result.case not in again]
            yield from results
            if not keep:
                shutil.rmtree(unit.folder, ignore_errors=True)
        time.sleep(0.02)


def _begin(world: World, cases: Sequence[Case], folder: Path) -> _Unit:
    unit = _Unit(cases, folder, begun=time.monotonic())
    world.copy(folder, trained=cases[0].trained)
    for case in cases:
        case.prepare(folder)
    unit.steps = cases[0].steps()
    _next_step(unit)
    return unit


def _next_step(unit: _Unit) -> None:
    number = len(unit.ended)
    for case in unit.cases:
        case.between(unit.folder, number)
    limit = max(case.limit_seconds for case in unit.cases)
    unit.job = start(unit.folder, unit.steps[number], limit)


def _failed_for_all(bad: Sequence[Result]) -> bool:
    return any(result.verdict.verdict in {"stops_others", "traceback"} for result in bad)


def _judge(world: World, unit: _Unit) -> list[Result]:
    seconds = (time.monotonic() - unit.begun) / len(unit.cases)
    found = tables(unit.folder)
    general = [fault for ended in unit.ended for fault in faults_of_the_end(ended)]
    spoilt = {entity for case in unit.cases for entity in case.spoilt}
    first = unit.cases[0]
    if first.compared and not any(ended.killed for ended in unit.ended):
        before = world.trained_tables if first.trained else world.tables
        general += others_changed(before, found, spoilt, first.compared)
    log = "\n".join(ended.stderr[-3000:] for ended in unit.ended)
    results = []
    for case in unit.cases:
        verdicts = list(general)
        if worst(general).verdict != "stops_others":
            verdicts.append(case.judge(unit.folder, unit.ended, found, alone=len(unit.cases) == 1))
        results.append(Result(case, worst(verdicts), seconds, log))
    return results
