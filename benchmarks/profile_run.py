"""Profile one command of Kedro: ``python benchmarks/profile_run.py OUT.txt kedro run --env fleet --pipelines forecasting``.

Writes processor seconds (of all threads of the process, so that other work on the machine does not show) by node, loading and
saving included, and by function and line of wind_kedro, from samples: *within* is with all that the function calls, *own* of the
innermost line of wind_kedro, with the libraries that it calls. Then cProfile's functions by cumulative and by own time, of
wind_kedro and of all code: these are seconds by the clock, with numbers of calls.
"""

from __future__ import annotations

import cProfile
import functools
import pstats
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from kedro.framework.cli import main as kedro
from kedro.runner.task import Task

#: How many nodes, functions and lines are listed.
TOP = 25
SAMPLE_SECONDS = 0.005
PACKAGE = "/src/wind_kedro/"


class Samples:
    """Processor seconds by function and by line of wind_kedro, sampled by the processor's time."""

    def __init__(self) -> None:
        self.within: Counter[str] = Counter()
        self.own: Counter[str] = Counter()
        self._last = time.process_time()
        signal.signal(signal.SIGPROF, self._take)
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_SECONDS, SAMPLE_SECONDS)

    def _take(self, _number: int, frame: FrameType | None) -> None:
        # While a library computes no sample can be taken: the next one has the weight of all the time since the last.
        now = time.process_time()
        spent, self._last = now - self._last, now
        seen: set[str] = set()
        while frame is not None:
            code = frame.f_code
            if PACKAGE in code.co_filename:
                place = code.co_filename.rpartition(PACKAGE)[2]
                if not seen:
                    self.own[f"{place}:{frame.f_lineno} {code.co_qualname}"] += spent  # type: ignore[attr-defined]
                seen.add(f"{place}:{code.co_firstlineno} {code.co_qualname}")  # type: ignore[attr-defined]
            frame = frame.f_back
        if not seen:
            self.own["(no code of wind_kedro)"] += spent
        for name in seen:
            self.within[name] += spent

    def stop(self) -> None:
        """Take no more samples."""
        signal.setitimer(signal.ITIMER_PROF, 0)


def main() -> int:
    """Run the command and write the profile; its exit code."""
    path, _, *words = sys.argv[1:]
    sys.argv = ["kedro", *words]
    spent = _time_nodes()
    samples, profiler, code = Samples(), cProfile.Profile(), 0
    try:
        profiler.runcall(kedro)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    samples.stop()
    with Path(path).open("w", encoding="utf-8") as file:
        _list(file, f"processor seconds by node (of the command: {time.process_time():.1f})", spent)
        _list(file, "processor seconds within functions of wind_kedro", samples.within)
        _list(file, "processor seconds by innermost line of wind_kedro", samples.own)
        stats = pstats.Stats(profiler, stream=file)
        for order in ("cumulative", "tottime"):
            for only in ([PACKAGE], []):
                file.write(f"\n=== cProfile, {'wind_kedro' if only else 'all code'} by {order}\n")
                stats.sort_stats(order).print_stats(*only, TOP)
    return code


def _time_nodes() -> dict[str, float]:
    """Processor seconds by node, as nodes finish."""
    spent: dict[str, float] = {}
    execute = Task.execute

    @functools.wraps(execute)
    def timed(self: Task) -> Any:
        began = time.process_time()
        try:
            return execute(self)
        finally:
            spent[self.node.name] = time.process_time() - began

    Task.execute = timed  # type: ignore[method-assign]
    return spent


def _list(file: TextIO, title: str, seconds: Mapping[str, float]) -> None:
    file.write(f"\n=== {title}\n")
    for name, value in sorted(seconds.items(), key=lambda item: -item[1])[:TOP]:
        file.write(f"{value:9.2f} {name}\n")


if __name__ == "__main__":
    sys.exit(main())
