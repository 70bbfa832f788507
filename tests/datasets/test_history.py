from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import DatasetError
from kedro.utils import load_obj

from records import as_forecasts
from wind_kedro.cards.columns import FORECAST_WEATHER
from wind_kedro.contracts.forecasts import Forecasts
from wind_kedro.contracts.training import Promotions
from wind_kedro.datasets import History
from wind_kedro.datasets.derived import frame_of

MakeHistory = Callable[..., History]


def _forecasts(product: str, issued: str, entity: str = "hill", **quantiles: float) -> pd.DataFrame:
    issued_at = pd.Timestamp(issued, tz="UTC")
    return as_forecasts(
        pd.DataFrame(
            {
                "product_id": product,
                "entity_id": entity,
                "model": "climatology",
                "model_version": "1",
                "issued_at": issued_at,
                "valid_at": [issued_at + pd.Timedelta(hours=lead) for lead in (1, 2)],
                "lead_minutes": [60, 120],
                "capacity_kw": 3000.0,
                "weather_run_at": pd.NaT,
                "fallback": "",
                "weather": FORECAST_WEATHER,
            }
            | quantiles
        )
    )


@pytest.fixture
def history(tmp_path: Path) -> MakeHistory:
    def make(contract: str = "forecasts.Forecasts", partition_by: list[str] | None = None, **options: Any) -> History:
        return History(
            filepath=str(tmp_path / "history"),
            partition_by=partition_by or ["product_id", "issued_at"],
            contract=f"wind_kedro.contracts.{contract}",
            **options,
        )

    return make


def _keys(table: pd.DataFrame) -> list[tuple[str, str, float]]:
    return [(row.product_id, f"{row.issued_at:%d %H}", row.q500_kw) for row in table[table["lead_minutes"] == 60].itertuples()]


def test_a_history_grows_by_its_key(history: MakeHistory) -> None:
    history().save(_forecasts("hours", "2024-03-01 06:00", q500_kw=1.0))
    history().save(_forecasts("hours", "2024-03-01 18:00", q500_kw=2.0))
    history().save(_forecasts("days", "2024-03-01 06:00", q500_kw=3.0))
    assert _keys(history().load()) == [("days", "01 06", 3), ("hours", "01 06", 1), ("hours", "01 18", 2)]


def test_one_table_may_hold_several_partitions(history: MakeHistory, tmp_path: Path) -> None:
    history().save(
        pd.concat([_forecasts("hours", "2024-04-01 06:00", q500_kw=2.0), _forecasts("hours", "2024-03-01 06:00", q500_kw=1.0)])
    )
    assert _keys(history().load()) == [("hours", "01 06", 1), ("hours", "01 06", 2)]
    assert sorted(path.name for path in (tmp_path / "history").glob("month=*")) == ["month=2024-03", "month=2024-04"]


def test_a_rerun_replaces_its_own_partition_and_touches_no_other(history: MakeHistory) -> None:
    history().save(_forecasts("hours", "2024-03-01 06:00", q500_kw=1.0))
    history().save(_forecasts("hours", "2024-03-01 18:00", q500_kw=2.0))
    history().save(_forecasts("days", "2024-03-01 18:00", q500_kw=3.0))
    for _ in range(2):
        history().save(_forecasts("hours", "2024-03-01 18:00", entity="shore", q500_kw=9.0))
    table = history().load()
    assert _keys(table) == [("days", "01 18", 3), ("hours", "01 06", 1), ("hours", "01 18", 9)]
    assert list(table["entity_id"]) == ["hill"] * 4 + ["shore"] * 2


def test_rows_of_a_partition_keep_their_order(history: MakeHistory) -> None:
    saved = _forecasts("hours", "2024-03-01 06:00", q500_kw=1.0)
    history().save(_forecasts("hours", "2024-03-01 07:00", q500_kw=1.0))
    history().save(saved.iloc[::-1])
    assert history().load()["lead_minutes"].tolist() == [120, 60, 60, 120]


def test_an_interrupted_save_leaves_the_previous_partition_whole(history: MakeHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    history().save(_forecasts("hours", "2024-03-01 06:00", q500_kw=1.0))

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("deltalake.write_deltalake", full)
        with pytest.raises(DatasetError, match="no space left"):
            history().save(_forecasts("hours", "2024-03-01 06:00", q500_kw=2.0))
    assert _keys(history().load()) == [("hours", "01 06", 1)]


def test_what_a_killed_run_left_half_written_is_not_read(history: MakeHistory, tmp_path: Path) -> None:
    history().save(_forecasts("hours", "2024-03-01 06:00", q500_kw=1.0))
    (tmp_path / "history/month=2024-03/part-00000-half.snappy.parquet").write_bytes(b"PAR1 and then the power failed")
    assert _keys(history().load()) == [("hours", "01 06", 1)]


def test_nodes_read_the_times_they_need(history: MakeHistory) -> None:
    for day in (1, 2, 3):
        history().save(_forecasts("hours", f"2024-03-0{day} 06:00", q500_kw=float(day)))
    records = history(sliced=True).load()
    first, last = pd.Timestamp("2024-03-02", tz="UTC"), pd.Timestamp("2024-03-02 06:00", tz="UTC")
    assert _keys(frame_of(records, first=first, last=last)) == [("hours", "02 06", 2)]
    assert list(frame_of(records, ["entity_id", "q500_kw"], first=first)) == ["entity_id", "q500_kw"]
    assert len(frame_of(records)) == 6


CONTRACTS = ["forecasts.Forecasts", "training.Promotions", "forecasts.Scores", "operation.Incidents"]


@pytest.mark.parametrize("contract", CONTRACTS)
def test_an_empty_history_keeps_its_contract(history: MakeHistory, contract: str) -> None:
    table = history(contract).load()
    assert table.empty
    model = load_obj(f"wind_kedro.contracts.{contract}")
    pd.testing.assert_frame_equal(model.validate(table), table)


def test_an_empty_history_is_not_there_and_a_kept_one_is(history: MakeHistory) -> None:
    assert not history().exists()
    history().save(_forecasts("hours", "2024-03-01 06:00", q500_kw=1.0))
    assert history().exists()


def test_what_is_only_read_is_never_written(history: MakeHistory, tmp_path: Path) -> None:
    history().save(_forecasts("hours", "2024-03-01 06:00", q500_kw=1.0))
    view = history(read_only=True)
    with pytest.raises(DatasetError, match="is read here, not written"):
        view.save(_forecasts("hours", "2024-03-01 06:00", q500_kw=2.0))
    assert _keys(view.load()) == [("hours", "01 06", 1)]


def test_each_product_has_its_own_levels_and_the_history_has_all(history: MakeHistory) -> None:
    both = pd.concat(
        [
            _forecasts("hours", "2024-03-01 06:00", q100_kw=1.0, q500_kw=2.0),
            _forecasts("quarters", "2024-03-01 06:00", q250_kw=3.0, q500_kw=4.0),
        ]
    )
    history().save(both)
    table = Forecasts.validate(history().load()).set_index("product_id")
    assert table.loc["hours", ["q100_kw", "q500_kw"]].drop_duplicates().to_numpy().tolist() == [[1, 2]]
    assert table.loc["quarters", ["q250_kw", "q500_kw"]].drop_duplicates().to_numpy().tolist() == [[3, 4]]
    assert table.loc["hours", "q250_kw"].isna().all()
    assert table.loc["quarters", "q100_kw"].isna().all()


def test_a_column_that_says_nothing_yet_is_still_there(history: MakeHistory) -> None:
    # The first promotions had no champion to beat; no weather run is behind a forecast by climatology.
    time = pd.Timestamp("2024-03-01", tz="UTC")
    first = pd.DataFrame(
        {
            "product_id": ["hours"],
            "entity_id": ["hill"],
            "model": ["climatology"],
            "model_version": ["1"],
            "run_id": ["abc"],
            "deciding_score": ["pinball_share"],
            "score": [0.1],
            "champion_score": [float("nan")],
            "reason": ["first"],
        }
    ).assign(promoted_at=time, trained_through=time, available_at=time, recorded_at=time)
    first = first.assign(
        promotion=1,
        parent=0,
        action="train",
        author="",
        manifest_sha256="",
        chain="c",
        previous_sha256="0" * 64,
        key_id="k",
        signature="0" * 128,
    )
    first = Promotions.validate(first)
    promotions = history("training.Promotions", ["product_id", "promoted_at"])
    promotions.save(first)
    pd.testing.assert_frame_equal(Promotions.validate(promotions.load()), first)


def test_what_is_loaded_is_what_was_saved(history: MakeHistory) -> None:
    saved = _forecasts("hours", "2024-03-01 06:00", q500_kw=1.5)
    history().save(saved)
    loaded = history().load()
    pd.testing.assert_frame_equal(loaded, saved)
    assert str(loaded["issued_at"].dtype) == "datetime64[us, UTC]"
    assert str(loaded["entity_id"].dtype) == "str"


def test_a_table_without_rows_changes_nothing(history: MakeHistory) -> None:
    history().save(_forecasts("hours", "2024-03-01 06:00", q500_kw=1.0))
    history().save(_forecasts("hours", "2024-03-01 06:00", q500_kw=1.0).iloc[:0])
    assert _keys(history().load()) == [("hours", "01 06", 1)]


@pytest.mark.parametrize(
    "period",
    [
        pytest.param("all", id="a word"),
        pytest.param("2024-03-01", id="a day"),
        pytest.param("../../etc", id="a path"),
        pytest.param("it's", id="a quote"),
    ],
)
def test_any_value_names_a_partition(history: MakeHistory, tmp_path: Path, period: str) -> None:
    scores = pd.DataFrame({"product_id": ["hours"], "period": [period], "value": [1.0]})
    kept = history("forecasts.Scores", ["product_id", "period"])
    for _ in range(2):
        kept.save(scores)
    assert kept.load()["period"].tolist() == [period]
    assert all(path.is_relative_to(tmp_path / "history") for path in tmp_path.rglob("*.parquet"))


def test_a_row_without_its_key_is_refused(history: MakeHistory) -> None:
    scores = pd.DataFrame({"product_id": ["hours", "hours"], "period": ["all", None]})
    with pytest.raises(DatasetError, match="period"):
        history("forecasts.Scores", ["product_id", "period"]).save(scores)
    assert not history().exists()


# --- what cannot be read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-40]), id="truncated"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"PAR1" + bytes(100) + b"PAR1"), id="garbage"),
        pytest.param(lambda path: path.unlink(), id="gone"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_passed_over_and_kept(
    history: MakeHistory, tmp_path: Path, spoil: Callable[[Path], Any]
) -> None:
    history().save(_forecasts("hours", "2024-03-01 06:00", q500_kw=1.0))
    (part,) = (tmp_path / "history").rglob("*.parquet")
    history().save(_forecasts("hours", "2024-04-01 18:00", q500_kw=2.0))
    spoil(part)
    spoilt = part.read_bytes() if part.exists() else None
    dataset = history()
    assert _keys(dataset.load()) == [("hours", "01 18", 2.0)]
    (line,) = dataset.passed_over
    assert line.startswith(f"{part}: cannot be read (")
    assert line.endswith("it is left out: restore it from a backup, or move it away")
    # Its place is written anew; what was there is kept.
    dataset.save(_forecasts("hours", "2024-03-01 06:00", q500_kw=3.0))
    kept = part.with_name(f"{part.name}.unreadable-1")
    assert (kept.read_bytes() if kept.exists() else None) == spoilt
    assert _keys(dataset.load()) == [("hours", "01 06", 3.0), ("hours", "01 18", 2.0)]
    assert dataset.passed_over == []


def test_housekeeping_compacts_and_removes_what_is_older_than_its_retention(history: MakeHistory, tmp_path: Path) -> None:
    dataset = history()
    for issued in ("2024-01-01 06:00", "2024-03-01 06:00", "2024-03-01 07:00", "2024-04-01 06:00"):
        dataset.save(_forecasts("hours", issued, q500_kw=1.0))
    before = _keys(dataset.load())
    dataset.maintain("2024-05", keep_hours=0)
    assert _keys(history().load()) == before
    assert len(list((tmp_path / "history").rglob("*.parquet"))) == 3 + 1  # a file a month, and a checkpoint of the log
    dataset.maintain("2024-05", keep_hours=0, retain_days=90)
    assert _keys(history().load()) == before[1:]
    assert history(read_only=True).maintain("2024-05", keep_hours=0) == 0
