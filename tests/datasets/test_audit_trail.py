"""The audit's chain: appended, never rewritten; whatever is changed, taken out or made anew is found and named."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from wind_kedro.contracts.operation import Audit, AuditRecords
from wind_kedro.datasets import audit_trail
from wind_kedro.datasets.audit_trail import AuditTrail, BrokenChainError
from wind_kedro.governance.audit import GENESIS, Head, chain


def trail(folder: Path) -> AuditTrail:
    return AuditTrail(
        filepath=str(folder / "audit"),
        head=str(folder / "elsewhere/head.json"),
        contract="wind_kedro.contracts.operation.Audit",
    )


def records(*days: int, model: str = "trees") -> pd.DataFrame:
    row = {
        "product_id": "hours", "entity_id": "hill", "model": model, "model_version": "1", "run_id": "r", "fallback": "",
        "forecast_sha256": "f", "features_sha256": "g", "data_sha256": "d", "weather_runs": "{}", "weather_runs_missing": "{}",
        "as_of": pd.Timestamp("2024-03-31", tz="UTC"), "recorded_at": pd.Timestamp("2024-03-31 01:02:03.000004", tz="UTC"),
        "git_commit": "c", "configuration_sha256": "k", "lock_sha256": "l", "python": "3.11", "platform": "p",
        "libraries": "{}", "revision": 0.0, "rung": "champion",
        "failure_code": None, "failure_message": None, "failure_action": None,
    }  # fmt: skip
    issues = [pd.Timestamp(f"2024-03-{day:02d} 06:00", tz="UTC") for day in days]
    rows = [row | {"issued_at": issue, "revised_issue_at": issue} for issue in issues]
    return AuditRecords().validate(pd.DataFrame(rows))


def test_records_are_chained_and_a_rerun_supersedes_without_rewriting(tmp_path: Path) -> None:
    audit = trail(tmp_path)
    audit.save(records(1, 2))
    before = {file: file.read_bytes() for file in (tmp_path / "audit").glob("*.parquet")}
    audit.save(records(2, 3, model="other"))
    assert all(file.read_bytes() == content for file, content in before.items())
    found = Audit.validate(audit.load())
    assert found["sequence"].tolist() == [1, 2, 3, 4]
    assert found["supersedes"].tolist() == [0, 0, 2, 0]
    assert found["previous_sha256"].tolist() == [GENESIS, *found["sha256"].tolist()[:-1]]
    assert audit.verify() == []
    assert audit.head() == Head(4, found["sha256"].iloc[-1])


def test_appending_reads_no_file_that_was_read_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit, read = trail(tmp_path), []
    for day in (1, 2, 3):
        audit.save(records(day))

    def counting(file: Path, **options: Any) -> pd.DataFrame:
        read.append(file.name)
        return read_whole(file, **options)

    read_whole = audit_trail.read_whole
    monkeypatch.setattr(audit_trail, "read_whole", counting)
    audit.save(records(4))
    # The new file, and the first record, which identifies the chain.
    assert set(read) == {f"{number:012d}-{number:012d}.parquet" for number in (1, 4)}
    assert audit.verify() == []
    # A file that was changed has another time: it is read, and the chain is broken.
    first = tmp_path / "audit/000000000001-000000000001.parquet"
    records(9).to_parquet(first)
    with pytest.raises(BrokenChainError):
        audit.save(records(5))


def test_an_empty_chain_is_whole(tmp_path: Path) -> None:
    audit = trail(tmp_path)
    assert (audit.verify(), len(Audit.validate(audit.load())), audit.exists()) == ([], 0, False)
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
        pytest.param(lambda files: files[2].unlink(), ["record 3: removed: the signed head"], id="the last removed"),
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
    assert "rewritten" in fault


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


@pytest.mark.parametrize("moment", ["_write_signed", "_keep"])
def test_whenever_a_run_is_killed_the_next_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    class KilledError(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise KilledError

    for first in (True, False):
        audit = trail(tmp_path)
        if not first:
            audit.save(records(1))
        with monkeypatch.context() as patch:
            patch.setattr(audit_trail if moment == "_write_signed" else AuditTrail, moment, killed)
            with pytest.raises(KilledError):
                audit.save(records(2))
        # The first records have no head yet: as if it had been removed, until the next run has written it.
        without_head = first and moment == "_keep"
        assert ["the head is missing" in line for line in audit.verify()] == [True] * without_head
    audit.save(records(3))
    assert audit.verify() == []
    days = [2, 1, 2, 3] if moment == "_keep" else [1, 3]
    assert audit.load()["issued_at"].dt.day.tolist() == days
    assert audit.head().sequence == len(days)


# --- what people without the key can do ---


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "audit").glob("*.parquet"))


def _forge(folder: Path) -> None:
    """One more record that follows from the last, as whoever reads the code can make it."""
    last = pd.read_parquet(_files(folder)[-1]).iloc[-1]
    made, _ = chain(records(9, model="forged"), Head(int(last["sequence"]), str(last["sha256"])), {})
    number = int(last["sequence"]) + 1
    made.to_parquet(folder / "audit" / f"{number:012d}-{number:012d}.parquet", index=False)


def _older_copy(folder: Path) -> None:
    head = folder / "elsewhere/head.json"
    now = head.read_text()
    _files(folder)[2].unlink()
    other = folder.parent / f"{folder.name}_other"
    shutil.copytree(folder, other)
    # A head of record 2 that the key signed: what a backup of then holds.
    for file in _files(other):
        file.unlink()
    (other / "elsewhere/head.json").unlink()
    audit = trail(other)
    audit.save(records(1))
    audit.save(records(2))
    shutil.rmtree(folder / "audit")
    shutil.copytree(other / "audit", folder / "audit")
    shutil.copy(other / "elsewhere/head.json", head)
    assert head.read_text() != now
    assert audit.verify() == [], "at its own place it is whole"


def _zero_head(folder: Path) -> None:
    (folder / "elsewhere/head.json").write_text(json.dumps({"sequence": 0, "sha256": GENESIS}))


def _forge_head(folder: Path) -> None:
    head = folder / "elsewhere/head.json"
    head.write_text(json.dumps(json.loads(head.read_text()) | {"sequence": 2}))


HOSTILE = [
    pytest.param(lambda folder: (folder / "elsewhere/head.json").unlink(), "the head is missing", id="head deleted"),
    pytest.param(
        lambda folder: [(folder / "elsewhere/head.json").unlink(), _files(folder)[2].unlink()],
        "the head is missing",
        id="head deleted and tail cut",
    ),
    pytest.param(
        lambda folder: [(folder / "elsewhere/head.json").unlink(), [file.unlink() for file in _files(folder)[1:]]],
        "the head is missing",
        id="head deleted and all but the first run",
    ),
    pytest.param(_zero_head, "the head is not signed", id="head set to zero"),
    pytest.param(
        lambda folder: [_zero_head(folder), [file.unlink() for file in _files(folder)]],
        "the head is not signed",
        id="head set to zero and no record",
    ),
    pytest.param(_forge_head, "the head was changed: the signature", id="head changed"),
    pytest.param(
        lambda folder: (folder / "elsewhere/head.json").write_bytes(b"\xff[[["),
        "the head is not signed",
        id="head damaged",
    ),
    pytest.param(_forge, "record 4: added after the signed head, and not signed", id="a record forged after the head"),
    pytest.param(_older_copy, "this machine has seen another chain here", id="an older copy, all of it signed"),
    pytest.param(
        lambda folder: _rewrite(_files(folder)[0], lambda table: table.assign(model="better")),
        "record 1 (hours/hill issued 2024-03-01T06:00): changed",
        id="an old record changed",
    ),
    pytest.param(lambda folder: _files(folder)[1].write_bytes(b"garbage"), "record 2: removed", id="a file of records damaged"),
    pytest.param(
        lambda folder: _rewrite(_files(folder)[1], lambda table: table.assign(recorded_at=[[1]])),
        "record 2 (hours/hill issued 2024-03-02T06:00): changed",
        id="a value of another type",
    ),
]


@pytest.mark.parametrize(("spoil", "told"), HOSTILE)
def test_an_altered_audit_is_found_and_takes_no_record(tmp_path: Path, spoil: Any, told: str) -> None:
    audit = trail(tmp_path)
    for day in (1, 2, 3):
        audit.save(records(day))
    spoil(tmp_path)
    found = trail(tmp_path).verify()
    assert any(told in line for line in found), found
    before = {file.name: file.read_bytes() for file in _files(tmp_path)}
    with pytest.raises(BrokenChainError, match="was altered") as caught:
        trail(tmp_path).save(records(4))
    assert "\n" not in str(caught.value)
    assert {file.name: file.read_bytes() for file in _files(tmp_path)} == before


def test_strange_files_are_named_and_passed_over(tmp_path: Path) -> None:
    audit = trail(tmp_path)
    audit.save(records(1))
    strange = ["notes.txt", "x.parquet", "a-b.parquet", "000000000009.parquet", "000000000001-0000000000x2.parquet"]
    for name in strange:
        (tmp_path / "audit" / name).write_bytes(b"garbage")
    (tmp_path / "audit" / "folder.parquet").mkdir()
    assert sorted(Path(name).name for name in audit.strangers()) == sorted([*strange, "folder.parquet"])
    assert audit.verify() == []
    audit.save(records(2))
    assert audit.load()["sequence"].tolist() == [1, 2]


def test_a_damaged_file_of_records_is_named_too(tmp_path: Path) -> None:
    audit = trail(tmp_path)
    for day in (1, 2):
        audit.save(records(day))
    _files(tmp_path)[0].write_bytes(b"garbage")
    assert [Path(name).name for name in audit.strangers()] == ["000000000001-000000000001.parquet"]
    assert audit.load()["sequence"].tolist() == [2]


def test_who_deletes_all_data_begins_anew(tmp_path: Path) -> None:
    audit = trail(tmp_path)
    audit.save(records(1, 2))
    shutil.rmtree(tmp_path / "audit")
    assert any("removed" in line for line in audit.verify()), "the head is still there"
    shutil.rmtree(tmp_path / "elsewhere")
    assert any("removed" in line for line in audit.verify()), "this machine has seen it"
    audit.save(records(3))
    assert audit.verify() == []
    assert audit.load()["issued_at"].dt.day.tolist() == [3]


def test_a_chain_of_an_earlier_version_is_adopted_if_it_is_whole(tmp_path: Path) -> None:
    linked, head = chain(records(1, 2), Head(), {})
    (tmp_path / "audit").mkdir()
    (tmp_path / "elsewhere").mkdir()
    linked.to_parquet(tmp_path / "audit" / "000000000001-000000000002.parquet", index=False)
    (tmp_path / "elsewhere/head.json").write_text(json.dumps({"sequence": head.sequence, "sha256": head.sha256}))
    audit = trail(tmp_path)
    with pytest.raises(BrokenChainError, match="kedro wind keys adopt"):
        audit.save(records(3))
    assert audit.adopt() == head
    audit.save(records(3))
    assert audit.verify() == []
    _rewrite(_files(tmp_path)[0], lambda table: table.assign(model="better"))
    with pytest.raises(BrokenChainError, match="changed"):
        audit.adopt()


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
