"""The audit's chain: appended, never rewritten; whatever is changed, taken out or made anew is found and named."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from wind_kedro import contracts
from wind_kedro.audit import GENESIS, Head
from wind_kedro.datasets.audit_trail import AuditTrail, BrokenChainError


def trail(folder: Path) -> AuditTrail:
    return AuditTrail(
        filepath=str(folder / "audit"), head=str(folder / "elsewhere/head.json"), contract="wind_kedro.contracts.Audit"
    )


def records(*days: int, model: str = "trees") -> pd.DataFrame:
    row = {
        "product_id": "hours", "entity_id": "hill", "model": model, "model_version": "1", "run_id": "r", "fallback": "",
        "forecast_sha256": "f", "features_sha256": "g", "data_sha256": "d", "weather_runs": "{}", "weather_runs_missing": "{}",
        "as_of": pd.Timestamp("2024-03-31", tz="UTC"), "recorded_at": pd.Timestamp("2024-03-31 01:02:03.000004", tz="UTC"),
        "git_commit": "c", "configuration_sha256": "k", "lock_sha256": "l", "python": "3.11", "platform": "p",
        "libraries": "{}",
    }  # fmt: skip
    rows = [row | {"issued_at": pd.Timestamp(f"2024-03-{day:02d} 06:00", tz="UTC")} for day in days]
    return contracts.AuditRecords().validate(pd.DataFrame(rows))


def test_records_are_chained_and_a_rerun_supersedes_without_rewriting(tmp_path: Path) -> None:
    audit = trail(tmp_path)
    audit.save(records(1, 2))
    before = {file: file.read_bytes() for file in (tmp_path / "audit").glob("*.parquet")}
    audit.save(records(2, 3, model="other"))
    assert all(file.read_bytes() == content for file, content in before.items())
    found = contracts.Audit.validate(audit.load())
    assert found["sequence"].tolist() == [1, 2, 3, 4]
    assert found["supersedes"].tolist() == [0, 0, 2, 0]
    assert found["previous_sha256"].tolist() == [GENESIS, *found["sha256"].tolist()[:-1]]
    assert audit.verify() == []
    assert audit.head() == Head(4, found["sha256"].iloc[-1])


def test_an_empty_chain_is_whole(tmp_path: Path) -> None:
    audit = trail(tmp_path)
    assert (audit.verify(), len(contracts.Audit.validate(audit.load())), audit.exists()) == ([], 0, False)
    audit.save(records(1).iloc[:0])
    assert audit.head() == Head()


def _rewrite(file: Path, change: Any) -> None:
    table = pd.read_parquet(file)
    change(table).to_parquet(file, index=False)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        pytest.param(
            lambda files: _rewrite(files[1], lambda table: table.assign(model="better")),
            ["record 2 (hours/hill issued 2024-03-02T06:00): changed"],
            id="a word changed",
        ),
        pytest.param(
            lambda files: _rewrite(files[1], lambda t: t.assign(recorded_at=t["recorded_at"] + pd.Timedelta("1us"))),
            ["record 2 (hours/hill issued 2024-03-02T06:00): changed"],
            id="a microsecond changed",
        ),
        pytest.param(lambda files: files[1].unlink(), ["record 2: removed"], id="removed in the middle"),
        pytest.param(lambda files: files[0].unlink(), ["record 1: removed"], id="the first removed"),
        pytest.param(
            lambda files: files[2].unlink(), ["record 3: removed: the head that was kept aside"], id="the last removed"
        ),
        pytest.param(
            lambda files: files[2].with_name("000000000004-000000000004.parquet").write_bytes(files[2].read_bytes()),
            ["record 3 (hours/hill issued 2024-03-03T06:00): stands twice"],
            id="one twice",
        ),
    ],
)
def test_what_was_changed_or_taken_out_is_named(tmp_path: Path, spoil: Any, told: list[str]) -> None:
    audit = trail(tmp_path)
    for day in (1, 2, 3):
        audit.save(records(day))
    spoil(sorted((tmp_path / "audit").glob("*.parquet")))
    found = audit.verify()
    assert [line[: len(start)] for line, start in zip(found, told, strict=False)] == told


def test_a_chain_made_anew_does_not_end_in_the_head_that_was_kept(tmp_path: Path) -> None:
    (tmp_path / "true").mkdir()
    (tmp_path / "forged").mkdir()
    true, forged = trail(tmp_path / "true"), trail(tmp_path / "forged")
    true.save(records(1, 2))
    forged.save(records(1, 2, model="better"))
    assert forged.verify() == []
    (fault,) = forged.verify(true.head())
    assert "made anew" in fault


def test_nothing_is_appended_to_a_broken_chain(tmp_path: Path) -> None:
    audit = trail(tmp_path)
    for day in (1, 2):
        audit.save(records(day))
    sorted((tmp_path / "audit").glob("*.parquet"))[1].unlink()
    with pytest.raises(BrokenChainError, match="record 2: removed"):
        audit.save(records(3))


def test_a_run_killed_between_records_and_head_is_gone_on_from(tmp_path: Path) -> None:
    audit = trail(tmp_path)
    audit.save(records(1))
    head = (tmp_path / "elsewhere/head.json").read_text()
    audit.save(records(2))
    (tmp_path / "elsewhere/head.json").write_text(head)
    assert audit.verify() == [], "what follows the head is no fault"
    audit.save(records(3))
    assert audit.load()["sequence"].tolist() == [1, 2, 3]
    assert audit.verify() == []
    assert json.loads((tmp_path / "elsewhere/head.json").read_text())["sequence"] == 3


def _append(folder: Path, day: int) -> None:
    for _ in range(3):
        trail(folder).save(records(day))


def test_runs_at_once_give_one_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append, args=(tmp_path, day)) for day in (1, 2, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    audit = trail(tmp_path)
    assert audit.load()["sequence"].tolist() == list(range(1, 10))
    assert audit.verify() == []
