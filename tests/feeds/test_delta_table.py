"""Data lakes: real Delta tables, on disk and on a real S3 server on loopback; partitioned Parquet."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import logging
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable as Table
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from s3_server import REGION, client, served
from wind_kedro.feeds import FeedError, Landing
from wind_kedro.feeds.delta_table import DeltaTable
from wind_kedro.feeds.drop_folder import DropFolder
from wind_kedro.readers.source_table import SourceTable

SECRET = "s3cr3tS3CR3T"  # noqa: S105 - opens nothing but the server below


def _rows(*ids: int, power: float = 1, farm: str = "coast") -> pa.Table:
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "farm": pa.array([farm] * len(ids), pa.string()),
            "power": pa.array([power] * len(ids), pa.float64()),
        }
    )


def _feed(table: Path | str, **fields: Any) -> DeltaTable:
    card = {"id": "lake", "into": "lake", "table": str(table), "rows_per_batch": 3, "longest_wait_seconds": 0.05}
    return DeltaTable.model_validate(card | fields)


def _land(feed: DeltaTable, root: Path, batches: int | None = None) -> list[dict[str, Any]]:
    """Fetch and land, up to so many batches; the rows that landed."""
    rows: list[dict[str, Any]] = []
    for landed in itertools.islice(Landing(root, feed.into, feed.id).pull(feed.fetch), batches):
        for name in sorted(landed.files):
            rows += pq.read_table(landed.folder / name).to_pylist()
    return rows


def _ids(rows: list[dict[str, Any]]) -> list[int]:
    return sorted(row["id"] for row in rows)


def _append(table: Path | str, rows: pa.Table, **rest: Any) -> None:
    write_deltalake(table, rows, mode="append", partition_by=["farm"], **rest)


@pytest.fixture(params=["plain", "change data feed"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A table of one version, with and without a change data feed."""
    path = tmp_path / "table"
    configuration = {"delta.enableChangeDataFeed": "true"} if request.param == "change data feed" else {}
    _append(path, _rows(1, 2), configuration=configuration)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "raw"


# --- everything once -------------------------------------------------------------------------------------------------


def test_everything_lands_once_then_nothing_then_what_is_new(table: Path, root: Path) -> None:
    _append(table, _rows(3, 4, farm="hill"))
    feed = _feed(table)
    assert _ids(_land(feed, root)) == [1, 2, 3, 4]
    assert _land(feed, root) == []
    _append(table, _rows(5, farm="hill & dale/ü"))
    rows = _land(feed, root)
    assert [(row["id"], row["farm"]) for row in rows] == [(5, "hill & dale/ü")]
    assert _land(feed, root) == []


def test_rows_say_when_they_were_committed(table: Path, root: Path) -> None:
    _append(table, _rows(3))
    committed = {entry["version"]: entry["timestamp"] for entry in Table(table).history()}
    rows = {row["id"]: row["committed_at"] for row in _land(_feed(table), root)}
    for number, version in ((1, 0), (2, 0), (3, 1)):
        assert rows[number] == dt.datetime.fromtimestamp(committed[version] / 1000, dt.UTC)
    with pytest.raises(FeedError, match="has a column 'power' of its own; give `committed_at` another name"):
        _land(_feed(table, committed_at="power", into="other"), root)


def test_an_update_lands_the_changed_row_and_not_its_neighbours(table: Path, root: Path) -> None:
    feed = _feed(table)
    _land(feed, root)
    Table(table).update(updates={"power": "7"}, predicate="id = 2")
    assert [(row["id"], row["power"]) for row in _land(feed, root)] == [(2, 7)]
    assert _land(feed, root) == []
    landed = Landing(root, "lake", "lake").landed()
    assert [batch.landed_at for batch in landed] == sorted({batch.landed_at for batch in landed})


def test_a_merge_lands_what_it_inserted_and_changed_not_what_it_wrote_again(table: Path, root: Path) -> None:
    feed = _feed(table)
    _land(feed, root)
    source = pa.concat_tables([_rows(1), _rows(2, power=5), _rows(3)])
    merge = Table(table).merge(source, "s.id = t.id", source_alias="s", target_alias="t")
    merge.when_matched_update_all().when_not_matched_insert_all().execute()
    assert sorted((row["id"], row["power"]) for row in _land(feed, root)) == [(2, 5), (3, 1)]


def test_an_overwrite_lands_only_what_is_new_or_changed(table: Path, root: Path) -> None:
    feed = _feed(table)
    _land(feed, root)
    write_deltalake(table, pa.concat_tables([_rows(1), _rows(2, 2, power=3), _rows(1)]), mode="overwrite", partition_by=["farm"])
    # Of two rows 1 one was there; the others are new, equal or not.
    assert sorted((row["id"], row["power"]) for row in _land(feed, root)) == [(1, 1), (2, 3), (2, 3)]


def test_compaction_and_deletion_land_nothing(table: Path, root: Path) -> None:
    feed = _feed(table)
    for number in range(3, 6):
        _append(table, _rows(number))
    assert _ids(_land(feed, root)) == [1, 2, 3, 4, 5]
    Table(table).optimize.compact()
    Table(table).delete("id = 3")
    Table(table).create_checkpoint()
    assert _land(feed, root) == []
    _append(table, _rows(6))
    assert _ids(_land(feed, root)) == [6]


def test_many_quiet_versions_are_remembered_without_a_file(table: Path, root: Path) -> None:
    feed = _feed(table)
    _land(feed, root)
    for number in range(100, 106):
        _append(table, _rows(number))
        Table(table).delete(f"id = {number}")
    assert _ids(_land(feed, root)) == list(range(100, 106))
    for _ in range(11):
        Table(table).alter.set_table_properties({"delta.logRetentionDuration": "interval 9 days"})
    assert _land(feed, root) == []
    last = Landing(root, "lake", "lake").last()
    assert last is not None
    assert last.checkpoint is not None
    assert (last.files, last.checkpoint["version"]) == ((), Table(table).version())


def test_a_column_that_came_later_is_null_before(table: Path, root: Path) -> None:
    _append(table, _rows(3).append_column("wind", pa.array([7.5])), schema_mode="merge")
    assert [(row["id"], row["wind"]) for row in _land(_feed(table), root)] == [(1, None), (2, None), (3, 7.5)]


def test_partitions_of_the_card_alone_land(table: Path, root: Path) -> None:
    _append(table, _rows(3, farm="hill"))
    _append(table, _rows(4, farm="shore"))
    feed = _feed(table, partitions={"farm": ["hill", "shore"]})
    assert _ids(_land(feed, root)) == [3, 4]
    assert _ids(_land(_feed(table, partitions={"farm": ["coast"]}, first_version=2, into="late"), root)) == [1, 2]
    with pytest.raises(FeedError, match="is not partitioned by power but by farm; correct `partitions`"):
        _land(_feed(table, partitions={"power": ["1"]}, into="wrong"), root)


def test_partition_values_keep_their_type(tmp_path: Path, root: Path) -> None:
    values = {
        "day": pa.array([dt.date(2024, 1, 1), None]),
        "at": pa.array([dt.datetime(2024, 1, 1, 5, tzinfo=dt.UTC), None], pa.timestamp("us", "UTC")),
        "flag": pa.array([True, None]),
        "number": pa.array([5, None]),
        "id": pa.array([1, 2]),
    }
    rows = pa.table(values)
    path = tmp_path / "typed"
    write_deltalake(path, rows, partition_by=["day", "at", "flag", "number"])
    for version in (0, "latest"):
        landed = _land(_feed(path, first_version=version, into=f"typed_{version}"), root)
        found = [{name: value for name, value in row.items() if name != "committed_at"} for row in landed]
        assert sorted(found, key=lambda row: row["id"]) == [{name: row[name] for name in found[0]} for row in rows.to_pylist()]


@pytest.mark.parametrize("boundary", range(4))
def test_a_fetch_that_was_killed_goes_on_with_nothing_lost_or_doubled(table: Path, root: Path, boundary: int) -> None:
    for number in range(3, 9):
        _append(table, _rows(number))
    feed = _feed(table)
    before = _land(feed, root, batches=boundary)
    assert len(before) == [0, 3, 6, 8][boundary]
    assert _ids(before + _land(feed, root)) == list(range(1, 9))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_however_commits_and_fetches_mix_every_row_lands_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("lake")
    feed, root = _feed(folder / "table", rows_per_batch=data.draw(st.sampled_from([1, 4, 100]))), folder / "raw"
    count, landed = 0, []
    _append(folder / "table", _rows())
    for _ in range(data.draw(st.integers(1, 6))):
        step = data.draw(st.sampled_from(["append", "append", "compact", "rewrite", "fetch", "fetch"]))
        if step == "append":
            new = data.draw(st.integers(1, 4))
            _append(folder / "table", _rows(*range(count, count + new), farm=data.draw(st.sampled_from(["coast", "hill"]))))
            count += new
        elif step == "compact":
            Table(folder / "table").optimize.compact()
        elif step == "rewrite":
            write_deltalake(folder / "table", Table(folder / "table").to_pyarrow_table(), mode="overwrite", partition_by=["farm"])
        else:
            landed += _land(feed, root, data.draw(st.sampled_from([None, 0, 1])))
    landed += _land(feed, root)
    assert _ids(landed) == list(range(count))
    assert _land(feed, root) == []


# --- what is no longer there -----------------------------------------------------------------------------------------


def test_text_that_is_not_utf8_lands_escaped_and_blocks_nothing(tmp_path: Path, root: Path) -> None:
    table = tmp_path / "odd"
    write_deltalake(table, _rows(1))
    version = _append_file(table, pa.table({"id": [2], "farm": pa.array([b"c\xff"]).cast(pa.binary())}))
    write_deltalake(table, _rows(3), mode="append")
    feed = _feed(table)
    assert [(row["id"], row["farm"]) for row in _land(feed, root)] == [(1, "coast"), (2, "c\\xff"), (3, "coast")]
    faults = [fault for batch in Landing(root, "lake", "lake").landed() for fault in batch.faults]
    assert version == 1
    assert faults == ["1 values of column 'farm' are not UTF-8: their bytes are written as \\x.."]


def _append_file(table: Path, rows: pa.Table, path: str = "odd.parquet") -> int:
    """A version that another writer committed, with a file that it wrote."""
    version = Table(table).version() + 1
    texts = [pa.Array.from_buffers(pa.string(), len(rows), rows["farm"].combine_chunks().buffers())]
    pq.write_table(pa.table({"id": rows["id"], "farm": texts[0]}), table / Path(path).name)
    size = (table / Path(path).name).stat().st_size
    add = {"path": path, "partitionValues": {}, "size": size, "modificationTime": 0, "dataChange": True}
    log = table / "_delta_log" / f"{version:020d}.json"
    log.write_text(json.dumps({"commitInfo": {"timestamp": 1_700_000_000_000}}) + "\n" + json.dumps({"add": add}))
    return version


@pytest.mark.parametrize("path", ["../other/x.parquet", "/etc/passwd", "%2e%2e/x.parquet", "link.parquet"])
def test_files_outside_of_the_table_are_refused(tmp_path: Path, root: Path, path: str) -> None:
    table = tmp_path / "odd"
    write_deltalake(table, _rows(1))
    _append_file(table, pa.table({"id": [2], "farm": pa.array([b"c"])}), path)
    if path == "link.parquet":
        (table / path).rename(tmp_path / "elsewhere.parquet")
        (table / path).symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(FeedError, match=r"not inside of the table's folder"):
        _land(_feed(table), root)
    assert len(Landing(root, "lake", "lake").landed()) == 0


def test_a_column_named_as_ours_does_not_date_the_rows(tmp_path: Path, root: Path) -> None:
    table = tmp_path / "odd"
    write_deltalake(table, pa.table({"id": [1], "landed_at": ["2015-01-01T00:00:00Z"]}))
    rows = _land(_feed(table), root)
    assert [(row["id"], row["source_landed_at"]) for row in rows] == [(1, "2015-01-01T00:00:00Z")]
    assert "landed_at" not in rows[0]


def test_history_that_was_vacuumed_is_told_and_a_new_start_works(table: Path, root: Path) -> None:
    feed = _feed(table)
    _land(feed, root)
    _append(table, _rows(3))
    Table(table).update(updates={"power": "7"}, predicate="id = 3")
    Table(table).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    message = (
        r"^feed 'lake': .*: what version 1 brought is no longer kept .*; to start again, move what landed in 'lake' aside "
        r"and set `first_version: 3`$"
    )
    latest = Table(table).version()
    with pytest.raises(FeedError, match=message.replace("3`", f"{latest}`")):
        _land(feed, root)
    (root / "lake").rename(root / "aside")
    again = _feed(table, first_version=latest)
    assert sorted((row["id"], row["power"]) for row in _land(again, root)) == [(1, 1), (2, 1), (3, 7)]
    _append(table, _rows(4))
    assert _ids(_land(again, root)) == [4]


def test_a_log_that_was_cleaned_up_is_told(table: Path, root: Path) -> None:
    _append(table, _rows(3))
    Table(table).create_checkpoint()
    (table / "_delta_log" / f"{0:020d}.json").unlink()
    with pytest.raises(FeedError, match=r"what version 0 brought is no longer kept.*set `first_version: 1`"):
        _land(_feed(table), root)
    assert _ids(_land(_feed(table, first_version="latest"), root)) == [1, 2, 3]


def test_another_table_in_the_same_place_is_told(table: Path, root: Path) -> None:
    feed = _feed(table)
    _land(feed, root)
    shutil.rmtree(table)
    _append(table, _rows(1))
    with pytest.raises(FeedError, match="another table stands here since the last fetch; to start again"):
        _land(feed, root)


def test_a_table_that_is_not_there_or_broken_is_told_in_one_line(table: Path, root: Path) -> None:
    with pytest.raises(FeedError, match=r"^feed 'lake': .*no: there is no Delta table.*correct `table`") as error:
        _land(_feed(table / "no"), root)
    assert "\n" not in str(error.value)
    for path in table.rglob("*.parquet"):
        path.write_bytes(b"PAR1 broken")
    with pytest.raises(FeedError, match=r"^feed 'lake': .*version 0 cannot be read \(.*\); repair the table$") as error:
        _land(_feed(table), root)
    assert "\n" not in str(error.value)


#: The example of the Delta protocol.
_VECTOR = {
    "storageType": "u",
    "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^",
    "offset": 4,
    "sizeInBytes": 40,
    "cardinality": 6,
}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        pytest.param("deletionVector", _VECTOR, "deletion vectors are not supported", id="deletion vector"),
        pytest.param("path", "s3://other/part.parquet", "holds files of another table", id="shallow clone"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(table: Path, root: Path, key: str, value: Any, message: str) -> None:
    log = table / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "add" in action:
            action["add"][key] = value
    feed = _feed(table)
    _append(table, _rows(3))
    (table / "_delta_log" / f"{1:020d}.json").write_text("\n".join(map(json.dumps, [a for a in actions if "add" in a])))
    with pytest.raises(FeedError, match=message):
        _land(feed, root)


# --- S3 --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """A real S3 server on loopback, with a bucket; its storage options."""
    # In a process of its own: deltalake reads without letting other threads of this one run.
    with served() as variables:
        client(variables).create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": REGION})
        yield {"aws_endpoint_url": variables["AWS_ENDPOINT_URL"], "aws_region": REGION, "aws_allow_http": "true"}


def test_a_table_on_s3_lands_as_one_on_disk(
    s3: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    caplog.set_level(logging.DEBUG, logger="wind_kedro")
    keys = {"aws_access_key_id": "landing-key", "aws_secret_access_key": SECRET}
    table = "s3://lake/tables/coast"
    options = s3 | keys | {"aws_conditional_put": "etag"}
    _append(table, _rows(1, 2), storage_options=options)
    feed = _feed(table, storage_options=s3, credentials=keys)
    assert _ids(_land(feed, tmp_path)) == [1, 2]
    _append(table, _rows(3, farm="hill & dale"), storage_options=options)
    Table(table, storage_options=options).update(updates={"power": "5"}, predicate="id = 1")
    assert sorted((row["id"], row["power"]) for row in _land(feed, tmp_path)) == [(1, 5), (3, 1)]
    assert _land(feed, tmp_path) == []
    Table(table, storage_options=options).update(updates={"power": "6"}, predicate="id = 1")
    Table(table, storage_options=options).update(updates={"power": "7"}, predicate="id = 1")
    Table(table, storage_options=options).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(FeedError, match="is no longer kept"):
        _land(feed, tmp_path)
    with pytest.raises(FeedError, match="there is no Delta table"):
        _land(_feed(f"{table}/no", storage_options=s3, credentials=keys, into="no"), tmp_path)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        gone = s3 | {"aws_endpoint_url": f"http://127.0.0.1:{nobody.getsockname()[1]}"}
        down = _feed(table, storage_options=gone, credentials=keys, attempts=2)
        with pytest.raises(FeedError, match=r"^feed 'lake': s3://lake/tables/coast: .*tried 2 times") as error:
            _land(down, tmp_path)
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert SECRET not in str(error.value) + caplog.text + repr(feed)


# --- partitioned Parquet ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning")
def test_partitioned_parquet_is_a_drop_folder_that_keeps_its_partition_columns(tmp_path: Path) -> None:
    rows = pa.table({"time": ["2024-01-01T00:00", "2024-01-01T00:00"], "power": [5.0, 6.0], "turbine": ["T 1", "T/2"]})
    pq.write_to_dataset(rows, tmp_path / "lake", partition_cols=["turbine"])
    feed = DropFolder(id="lake", into="lake", url=str(tmp_path / "lake"), glob="**/*.parquet", settle_seconds=0)
    landed = list(Landing(tmp_path / "raw", "lake", "lake").pull(feed.fetch))
    assert len(landed) == 1
    assert list(Landing(tmp_path / "raw", "lake", "lake").pull(feed.fetch)) == []
    farm = {
        "id": "hill", "name": "Hill", "latitude_deg": 50.0, "longitude_deg": 5.0, "time_zone": "Europe/Paris",
        "capacity_kw": 1000, "turbines": [{"id": "T 1", "rated_power_kw": 1000, "hub_height_m": 80}], "latency_minutes": 10,
        "signals": {
            "path": "lake/*/*/*.parquet", "format": "parquet", "timestamp": "time", "turbine": "turbine",
            "cadence_seconds": 600, "columns": {"power_kw": {"name": "power", "unit": "kW"}},
        },
        "weather": [{
            "model": "alpha", "kind": "analysis", "path": "x.csv", "valid_at": "time", "delay_minutes": 0, "length_hours": 12,
            "columns": {"wind_speed_100m_ms": {"name": "wind", "unit": "m/s"}},
        }],
    }  # fmt: skip
    read = SourceTable(kind="signals", root=str(tmp_path / "raw"), farms=[farm]).load().table().to_pandas()
    assert sorted(zip(read["turbine_id"], read["power_kw"], strict=True)) == [("T 1", "5.0"), ("T/2", "6.0")]


def test_a_card_of_a_lake_knows_only_its_fields() -> None:
    with pytest.raises(ValidationError, match="first_version"):
        _feed("x", first_version="oldest")
