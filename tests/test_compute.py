import os
import threading
import time

import pandas as pd
import pytest
from pydantic import ValidationError

from wind_kedro.compute import Mapped, Rows, Shared, Workers, map_farms

INLINE = Workers(backend="threading", jobs=1)
BACKENDS = [
    pytest.param(INLINE, id="inline"),
    pytest.param(Workers(backend="threading", jobs=2), id="threads"),
    pytest.param(Workers(backend="loky", jobs=2), id="processes", marks=pytest.mark.slow),
]


# Functions that run in other processes are sent as source of this module would be imported there: they import nothing from it.
def _halve(number: float, pause_s: float = 0.0) -> float:
    time.sleep(pause_s)
    if number < 0:
        raise ValueError(f"{number} is below nothing")
    return number / 2


def _whereabouts() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


@pytest.mark.parametrize("workers", BACKENDS)
def test_results_keep_the_order_of_the_tasks_not_of_their_finishing(workers: Workers) -> None:
    tasks = {"slow": (2.0, 0.2), "quick": (4.0, 0.0), "quicker": (6.0,)}
    assert list(map_farms(_halve, tasks, workers=workers, label="halve").results.items()) == [
        ("slow", 1),
        ("quick", 2),
        ("quicker", 3),
    ]


@pytest.mark.parametrize("workers", BACKENDS)
def test_a_task_that_fails_is_returned_with_its_reason_and_stops_no_other(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    mapped = map_farms(_halve, {"a": (2.0,), "bad": (-1.0,), "b": (4.0,)}, workers=workers, label="halve")
    assert mapped == Mapped(results={"a": 1, "b": 2}, failures={"bad": "ValueError: -1.0 is below nothing"})
    assert not caplog.records  # its caller logs it, as a row of failures


def test_keys_may_be_what_a_farm_is_known_by() -> None:
    tasks = {("hours", "hill"): (2.0,), ("hours", "shore"): (4.0,)}
    assert map_farms(_halve, tasks, workers=INLINE, label="halve").results == {
        ("hours", "hill"): 1,
        ("hours", "shore"): 2,
    }


def test_one_task_starts_no_processes() -> None:
    mapped = map_farms(_whereabouts, {"only": ()}, workers=Workers(backend="loky", jobs=2), label="where")
    assert mapped.results == {"only": (os.getpid(), threading.get_ident())}


@pytest.mark.slow
def test_processes_are_processes() -> None:
    mapped = map_farms(_whereabouts, {"a": (), "b": ()}, workers=Workers(backend="loky", jobs=2), label="where")
    assert os.getpid() not in {process for process, _ in mapped.results.values()}


@pytest.mark.parametrize("workers", BACKENDS)
def test_rows_and_what_is_shared_come_as_what_they_hold(workers: Workers) -> None:
    table = pd.DataFrame({"power": [1.0, 2.0, 4.0]}, index=[7, 8, 9])
    tasks = {
        "some": (Rows.where(table, [True, False, True]),),
        "none": (Rows.where(table, [False] * 3),),
        "all": (Shared(table),),
    }
    found = map_farms(pd.DataFrame.copy, tasks, workers=workers, label="rows")
    pd.testing.assert_frame_equal(found.results["some"], table.iloc[[0, 2]])
    pd.testing.assert_frame_equal(found.results["none"], table.iloc[[]])
    pd.testing.assert_frame_equal(found.results["all"], table)


@pytest.mark.parametrize("workers", BACKENDS)
def test_no_tasks_are_no_results(workers: Workers) -> None:
    assert map_farms(_halve, {}, workers=workers, label="halve") == Mapped()


def test_the_progress_bar_stays_out_of_logs(capsys: pytest.CaptureFixture[str]) -> None:
    map_farms(_halve, {"a": (2.0,), "b": (2.0,)}, workers=INLINE, label="halve")
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_is_no_failure_of_a_farm() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_farms(interrupted, {"a": ()}, workers=INLINE, label="interrupted")


def test_an_unknown_setting_of_workers_is_refused() -> None:
    with pytest.raises(ValidationError, match="threads"):
        Workers.model_validate({"backend": "loky", "threads": 4})
