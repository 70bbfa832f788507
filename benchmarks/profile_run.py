"""Profile one command of Kedro: ``python benchmarks/profile_run.py OUT.txt kedro run --env fleet --pipelines forecasting``.

Writes processor seconds by node (loading and saving included), and the functions that take most of them, of wind_kedro and of all
code, by cumulative and by own time. The timer is the processor's, of all threads, so that other work on the machine
does not show; calls of Python functions are dearer than without a profiler.
"""

from __future__ import annotations

import cProfile
import functools
import pstats
import sys
import time
from pathlib import Path
from typing import Any

from kedro.framework.cli import main as kedro
from kedro.runner.task import Task

#: How many nodes and functions are listed.
TOP = 25


def main() -> int:
    """Run the command and write the profile; its exit code."""
    path, _, *sys.argv[1:] = sys.argv[1:]
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
    sys.argv[0] = "kedro"
    profiler, code = cProfile.Profile(time.process_time), 0
    try:
        profiler.runcall(kedro)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    total = time.process_time()
    with Path(path).open("w", encoding="utf-8") as file:
        file.write(f"processor seconds of the command: {total:.1f}; of its nodes: {sum(spent.values()):.1f}\n")
        for name, seconds in sorted(spent.items(), key=lambda item: -item[1])[:TOP]:
            file.write(f"{seconds:9.2f} {name}\n")
        stats = pstats.Stats(profiler, stream=file)
        for order in ("cumulative", "tottime"):
            for only in (["wind_kedro/"], []):
                file.write(f"\n=== {'wind_kedro' if only else 'all code'} by {order}\n")
                stats.sort_stats(order).print_stats(*only, TOP)
    return code


if __name__ == "__main__":
    sys.exit(main())
