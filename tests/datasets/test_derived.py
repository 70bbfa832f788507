"""Derived tables: whatever the order of changes and kills, the result is that of computing everything anew."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.io import DatasetError

from s3_server import Line
from wind_kedro.cli.terminal import _as_one_line as as_one_line
from wind_kedro.datasets import DerivedTable
from wind_kedro.datasets.derived import DamagedTableError, ForeignRowsError, days_of, frame_of
from wind_kedro.storage.fingerprints import NO_DAY, Recipe, around, chunks, mixed, number_of, of_cards, overlapping

# Ibis 12 about DuckDB 2 and pandas 3.1.
pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]

DAYS = [NO_DAY, *pd.date_range("2015-01-30", "2015-02-02").as_unit("us")]
#: State of an upstream: a value for each farm and day that is there.
states = st.dictionaries(st.tuples(st.sampled_from("ab"), st.sampled_from(DAYS)), st.integers(0, 3), max_size=8)


class Killed(BaseException):
    """What a kill leaves: nothing runs after it."""


def table_at(folder: Path, **options: Any) -> DerivedTable:
    return DerivedTable(filepath=str(folder), key=["farm_id"], time="valid_at", order=["farm_id", "valid_at"], **options)


def recipe(state: dict[tuple[str, pd.Timestamp], int], calls: list[int] | None = None) -> Recipe:
    """Two rows a shard, one where its value is 1, none where it is 2."""
    shards = [(farm, day, value) for (farm, day), value in sorted(state.items())]
    wanted = pd.DataFrame(shards, columns=["farm_id", "day", "value"]).astype({"farm_id": "str", "day": "datetime64[us]"})
    wanted["fingerprint"] = mixed(wanted.pop("value").to_numpy("int64"))

    def work(part: pd.DataFrame) -> pd.DataFrame:
        if calls is not None:
            calls.append(len(part))
        rows = [
            (farm, pd.NaT if day == NO_DAY else day + pd.Timedelta(hours=hour), float(value))
            for (farm, day), value in state.items()
            for hour in range({1: 1, 2: 0}.get(value, 2))
            if ((part["farm_id"] == farm) & (part["day"] == day)).any()
        ]
        found = pd.DataFrame(rows, columns=["farm_id", "valid_at", "value"])
        return found.astype({"farm_id": "str", "valid_at": "datetime64[us]", "value": "float64"})

    return Recipe(wanted, work)


@settings(max_examples=12, deadline=None)
@given(history=st.lists(st.tuples(states, st.sampled_from([None, "rows", "days"])), min_size=1, max_size=4))
def test_any_history_of_changes_and_kills_ends_as_a_rebuild(
    history: list[tuple[dict[tuple[str, pd.Timestamp], int], str | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("derived")
    table = table_at(folder / "one", max_rows=3)
    for state, killed in history:
        if killed:
            with pytest.MonkeyPatch.context() as patched:
                fail_after_first(patched, table, killed)
                try:
                    table.save(recipe(state))
                except Killed:
                    table = table_at(folder / "one", max_rows=3)
    last = history[-1][0]
    table.save(recipe(last))
    anew = table_at(folder / "anew")
    anew.save(recipe(last))
    pd.testing.assert_frame_equal(table.load().frame(), anew.load().frame())
    pd.testing.assert_frame_equal(table.load().days, anew.load().days)
    calls: list[int] = []
    table.save(recipe(last, calls))
    assert calls == ([] if last else [0])[: len(calls)]  # nothing is computed again; an empty table has no shards


@pytest.mark.slow
def test_a_store_that_is_lost_between_two_commits_leaves_the_table_whole(
    s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import s3fs

    before = {(farm, day): 0 for farm in "ab" for day in DAYS}
    after = before | {("a", DAYS[3]): 1}
    with Line(s3_server, tmp_path) as line:
        for name, value in line.variables.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # it may have another address
        try:
            place: Any = f"s3://bucket/{uuid.uuid4().hex}"
            table_at(place).save(recipe(before))
            whole = table_at(place).load().frame()
            # The rows are committed, the shards that name this commit are not.
            line.cut_at("days/_delta_log/")
            with pytest.raises(DatasetError) as caught:
                table_at(place).save(recipe(after))
            assert line.is_cut()
            (message,) = (shown.format_message() for shown in [as_one_line(caught.value)] if shown)
            assert "\n" not in message
            assert "\x1b" not in message
            line.mend()
            pd.testing.assert_frame_equal(table_at(place).load().frame(), whole)
            calls: list[int] = []
            table_at(place).save(recipe(after, calls))
            assert calls == [1]
            assert len(table_at(place).load().frame()) == len(whole) - 1
        finally:
            s3fs.S3FileSystem.clear_instance_cache()


def fail_after_first(patched: pytest.MonkeyPatch, table: DerivedTable, store: str) -> None:
    """The second commit to ``rows`` or ``days`` is never made."""
    delta = getattr(table, f"_{store}")
    write, commits = delta._write, []

    def once(*arguments: Any, **options: Any) -> None:
        if commits:
            raise Killed
        commits.append(1)
        write(*arguments, **options)

    patched.setattr(delta, "_write", once)


def test_only_what_changed_is_computed(tmp_path: Path) -> None:
    table, calls = table_at(tmp_path), []
    state = {(farm, day): 0 for farm in "ab" for day in DAYS}
    table.save(recipe(state, calls))
    table.save(recipe(state | {("a", DAYS[3]): 1}, calls))
    assert calls == [2, 8, 1]  # those without a time, far from the others, apart
    assert len(table.load().frame()) == 19


def test_shards_are_those_of_the_newest_commit_of_any_writer(tmp_path: Path) -> None:
    day = DAYS[2]
    table, other = table_at(tmp_path), table_at(tmp_path)
    table.save(recipe({("a", day): 3}))
    days = table.load().days
    days["farm_id"] = "changed"
    assert table.load().days["farm_id"].tolist() == ["a"]
    assert other.load().days["farm_id"].tolist() == ["a"]
    other.save(recipe({("a", day): 3, ("b", day): 3}))
    assert table.load().days["farm_id"].tolist() == ["a", "b"]
    assert table.work(recipe({("b", day): 3}))["why"].tolist() == ["removed"]


def test_what_would_be_done_and_why_is_known_before(tmp_path: Path) -> None:
    table, state = table_at(tmp_path), {("a", day): 0 for day in DAYS}

    def asked(changed: dict[tuple[str, pd.Timestamp], int], step: int) -> Recipe:
        made = recipe({key: value for key, value in (state | changed).items() if value >= 0})
        number = mixed(np.full(len(made.wanted), step))
        return Recipe(made.wanted.assign(step=number, fingerprint=mixed(made.wanted["fingerprint"], number)), made.work)

    table.save(asked({}, step=1))
    assert table.work(asked({}, step=1)).empty
    work = table.work(asked({("a", DAYS[1]): 1, ("b", DAYS[1]): 0, ("a", DAYS[4]): -1}, step=1))
    assert work[["farm_id", "why"]].to_numpy().tolist() == [["a", "input_changed"], ["b", "missing"], ["a", "removed"]]
    assert set(table.work(asked({}, step=2))["why"]) == {"step_changed"}
    assert table.seconds_per_shard() > 0


def test_days_are_read_without_the_rest(tmp_path: Path) -> None:
    table = table_at(tmp_path)
    table.save(recipe({(farm, day): 0 for farm in "ab" for day in DAYS}))
    stored = table.load()
    assert stored.table(DAYS[2], DAYS[3]).count().execute() == 8
    frame = stored.frame(first=DAYS[2], last=DAYS[3])
    assert frame["valid_at"].dt.normalize().unique().tolist() == DAYS[2:4]
    assert "month" not in stored.table().columns


def test_shards_are_read_with_their_neighbours(tmp_path: Path) -> None:
    table = table_at(tmp_path)
    table.save(recipe({(farm, day): 0 for farm in "ab" for day in DAYS}))
    stored = table.load()

    def read(keys: list[tuple[str, pd.Timestamp]], **reach: int) -> list[tuple[str, pd.Timestamp]]:
        part = pd.DataFrame(keys, columns=["farm_id", "day"]).astype({"farm_id": "str", "day": "datetime64[us]"})
        found = stored.shards(part, **reach).to_pandas()
        return sorted(set(zip(found["farm_id"], found["valid_at"].dt.normalize().fillna(NO_DAY), strict=True)))

    assert read([("a", DAYS[2])]) == [("a", DAYS[2])]
    assert read([("a", NO_DAY), ("b", DAYS[2])], before=1) == [("a", NO_DAY), ("b", DAYS[1]), ("b", DAYS[2])]
    assert read([("a", DAYS[3])], after=2) == [("a", DAYS[3]), ("a", DAYS[4])]
    assert read([("a", DAYS[4] + pd.Timedelta(days=90))]) == []


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    table = table_at(tmp_path)
    table.save(recipe({}))
    assert table.load().table().to_pandas().columns.tolist() == ["farm_id", "valid_at", "value"]


def test_a_shard_with_a_fault_is_computed_again(tmp_path: Path) -> None:
    table = table_at(tmp_path)
    state = {("a", DAYS[1]): 0, ("b", DAYS[1]): 0}
    broken = recipe(state)
    broken.faults["a",] = "ValueError: no wind"
    table.save(broken)
    assert table.load().days["fault"].tolist() == ["ValueError: no wind", ""]
    calls: list[int] = []
    table.save(recipe(state, calls))
    assert calls == [1]
    assert table.load().days["fault"].tolist() == ["", ""]


def test_a_step_may_not_compute_what_it_was_not_asked_for(tmp_path: Path) -> None:
    good = recipe({("a", DAYS[1]): 0})
    other = recipe({("a", DAYS[2]): 0})
    with pytest.raises(ForeignRowsError, match="not asked for"):
        table_at(tmp_path).save(Recipe(good.wanted, lambda _: other.work(other.wanted)))


def test_whole_keys_are_replaced_with_all_their_days(tmp_path: Path) -> None:
    table = table_at(tmp_path, whole_key=True)

    def holding(days: list[pd.Timestamp], content: int) -> Recipe:
        rows = pd.DataFrame({"farm_id": pd.Series(["a"] * len(days), dtype="str"), "valid_at": days})
        wanted = pd.DataFrame({"farm_id": pd.Series(["a"], dtype="str"), "fingerprint": mixed(np.array([content]))})
        return Recipe(wanted, lambda _: rows.astype({"valid_at": "datetime64[us]"}))

    table.save(holding(DAYS[1:3], 1))
    table.save(holding(DAYS[3:5], 2))
    assert table.load().frame()["valid_at"].tolist() == DAYS[3:5]
    assert table.load().days["day"].tolist() == DAYS[3:5]


def test_statistics_are_kept_by_shard(tmp_path: Path) -> None:
    table = table_at(tmp_path, statistics=f"{__name__}.extremes")
    table.save(recipe({("a", DAYS[1]): 0, ("a", DAYS[2]): 2}))
    assert table.load().days["last_at"].tolist() == [DAYS[1] + pd.Timedelta(hours=1), pd.NaT]


def extremes(rows: Any) -> dict[str, Any]:
    return {"last_at": rows.valid_at.max()}


def test_neighbours_change_the_number_of_a_day() -> None:
    days = pd.DataFrame({"farm_id": "a", "day": DAYS, "digest": np.arange(5, dtype=np.uint64), "rows": 1, "last_at": DAYS})
    changed = days.assign(digest=days["digest"].where(days["day"] != DAYS[2], np.uint64(99)))
    before, after = (around(table, ["farm_id"], before=1).set_index("day") for table in (days, changed))
    assert before.index[before["digest"] != after["digest"]].tolist() == DAYS[2:4]
    assert before["rows"].tolist() == [1] * 5
    assert around(days, ["farm_id"], after=1)["last_at"].tolist() == [NO_DAY, *DAYS[2:], DAYS[4]]


def test_numbers_identify_values() -> None:
    assert number_of({"a": [1, {"b", "c"}]}) == number_of({"a": [1, {"c", "b"}]})
    assert len({number_of(value) for value in (1, "1", [1], None, 1.5)}) == 5
    assert mixed(np.array([1, 2]), 3).tolist() != mixed(np.array([3, 3]), np.array([1, 2])).tolist()
    cards = of_cards({"a": [5], "b": [5], "c": [6]}, "settings", 1)
    assert cards["a"] == cards["b"] != cards["c"]
    assert cards["a"] != of_cards({"a": [5]}, "settings", 2)["a"]


def test_chunks_are_rectangles() -> None:
    todo = pd.DataFrame([("a", day) for day in DAYS[1:]] + [("b", DAYS[3])], columns=["farm_id", "day"]).assign(rows=1)
    parts = [sorted(set(zip(part["farm_id"], part["day"], strict=True))) for part in chunks(todo, ["farm_id"], 100)]
    assert parts == [
        [("a", DAYS[1]), ("a", DAYS[2])],
        [("a", DAYS[3]), ("b", DAYS[3])],
        [("a", DAYS[4])],
    ]
    assert [len(part) for part in chunks(todo, ["farm_id"], 1)] == [1] * 5


def test_numbers_of_overlapping_spans_are_summed() -> None:
    numbers = np.random.default_rng(4)

    def spans(count: int) -> pd.DataFrame:
        days = np.sort(numbers.integers(0, 9, (count, 2)), axis=1)
        times = {name: pd.Timestamp("2024-01-01") + pd.to_timedelta(days[:, place], unit="D")
                 for place, name in enumerate(("first", "last"))}  # fmt: skip
        return pd.DataFrame({"farm_id": numbers.choice(["a", "b"], count), **times, "number": mixed(np.arange(count))})

    known, asked = spans(60), spans(40)
    expected = [
        sum(of.number for of in known.itertuples() if of.farm_id == row.farm_id and of.first <= row.last and of.last >= row.first)
        for row in asked.itertuples()
    ]
    assert overlapping(known, asked, "farm_id").tolist() == [number % 2**64 for number in expected]
    nothing = asked.assign(first=pd.NaT, last=pd.NaT)
    assert set(overlapping(known, nothing, "farm_id")) == {0}
    assert set(overlapping(known.iloc[:0], asked, "farm_id")) == {0}


def test_a_table_in_memory_has_shards_too(tmp_path: Path) -> None:
    table = table_at(tmp_path)
    table.save(recipe({(farm, day): 0 for farm in "ab" for day in DAYS}))
    stored = table.load()
    frame = frame_of(stored)
    assert frame_of(frame, first=DAYS[2]) is frame
    found, known = days_of(frame, ["farm_id"], "valid_at"), days_of(stored, ["farm_id"], "valid_at")
    pd.testing.assert_frame_equal(found[["farm_id", "day", "rows"]], known[["farm_id", "day", "rows"]])
    changed = frame.assign(value=frame["value"].where(frame["valid_at"] != DAYS[2], 9.0))
    again = days_of(changed, ["farm_id"], "valid_at")
    assert found.loc[found["digest"] != again["digest"], "day"].tolist() == [DAYS[2]] * 2


def test_housekeeping_changes_no_row_and_keeps_what_readers_hold(tmp_path: Path) -> None:
    table = table_at(tmp_path)
    for value in (0, 3, 0):
        table.save(recipe({(farm, day): value for farm in "ab" for day in DAYS}))
    table.save(recipe({("a", day): 0 for day in DAYS}))
    reader = table.load()
    before, days = reader.frame(), reader.days
    assert table.maintain("2015-03", keep_hours=1) == 0
    pd.testing.assert_frame_equal(table.load().frame(), before)
    pd.testing.assert_frame_equal(table.load().days, days)
    assert table.maintain("2015-03", keep_hours=0) > 0
    pd.testing.assert_frame_equal(table_at(tmp_path).load().frame(), before)
    calls: list[int] = []
    table.save(recipe({("a", day): 0 for day in DAYS}, calls))
    assert calls == []


def test_a_damaged_file_is_named_and_the_table_can_be_computed_anew(tmp_path: Path) -> None:
    table, state = table_at(tmp_path / "table"), {("a", day): 0 for day in DAYS}
    table.save(recipe(state))
    before = table.load().frame()
    next((tmp_path / "table/rows").rglob("*.parquet")).write_bytes(b"PAR1")
    with pytest.raises(DamagedTableError, match=r"restore it from a backup, or remove .*table and run again"):
        table.load().frame()
    shutil.rmtree(tmp_path / "table")
    table = table_at(tmp_path / "table")
    table.save(recipe(state))
    pd.testing.assert_frame_equal(table.load().frame(), before)
