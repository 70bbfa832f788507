"""`map_farms`: the one loop over farms. Parallel on this machine or on many, isolated, with a progress bar.

One farm that fails is a failure in the result; the others finish.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from wind_kedro.compute.cluster import attempt, resolved, spread
from wind_kedro.compute.workers import Workers

KeyT = TypeVar("KeyT", bound=Hashable)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Mapped(Generic[KeyT, ResultT]):
    """Results by key, and the reason of each key that failed."""

    results: dict[KeyT, ResultT] = field(default_factory=dict)
    failures: dict[KeyT, str] = field(default_factory=dict)


def map_farms(
    function: Callable[..., ResultT], tasks: Mapping[KeyT, tuple[Any, ...]], *, workers: Workers, label: str
) -> Mapped[KeyT, ResultT]:
    """Call ``function(*arguments)`` for every task; never let one task stop another.

    Args:
        function: picklable; all inputs are arguments, so that it runs in any process, on any machine.
        tasks: arguments by key; the result has the same keys, in the same order. `Rows` and `Shared` come as what they hold.
        workers: backend and number of workers.
        label: text of the progress bar.

    Returns:
        Results by key, and for each key that raised, the reason in one line, which the caller reports.

    Raises:
        ClusterError: if backend is ``dask`` and the scheduler or its workers cannot be reached or used, or were lost.
    """
    from rich.console import Console
    from rich.progress import track

    if not tasks:
        return Mapped()
    run = spread if workers.backend == "dask" else _on_this_machine
    # Only where somebody watches: a log file wants lines, not a bar.
    console, hidden = Console(file=sys.stderr), not sys.stderr.isatty()
    # Closed on an interrupt, too, which cancels what was not computed yet.
    with closing(run(function, tasks, workers, label)) as outcomes:
        tracked = track(outcomes, description=label, total=len(tasks), console=console, disable=hidden)
        done = {key: (result, failure) for key, result, failure in tracked}
    mapped: Mapped[KeyT, ResultT] = Mapped()
    for key in tasks:  # in the order of the tasks, not of their finishing: reruns are equal
        result, failure = done[key]
        if failure is None:
            mapped.results[key] = result
        else:
            mapped.failures[key] = failure
    return mapped


def _on_this_machine(
    function: Callable[..., Any], tasks: Mapping[KeyT, tuple[Any, ...]], workers: Workers, label: str
) -> Generator[tuple[KeyT, Any, str | None]]:
    """Key, result and reason of failure of each task, in the order of their finishing."""
    from joblib import Parallel, delayed

    # Rows are taken here, when their task is due: their whole table would travel with each.
    calls = (delayed(_keyed)(key, function, tuple(map(resolved, arguments))) for key, arguments in tasks.items())
    # One task needs no processes: starting them would cost more than they save.
    jobs = workers.jobs if len(tasks) > 1 else 1
    # Arrays travel through pipes: as files in shared memory, those of all tasks would stay until the last one ends.
    parallel = Parallel(n_jobs=jobs, backend=workers.backend, return_as="generator_unordered", max_nbytes=None)
    yield from parallel(calls)


def _keyed(key: KeyT, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[KeyT, Any, str | None]:
    return key, *attempt(function, arguments)
