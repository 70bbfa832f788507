"""Feed of a Delta Lake table, local or on S3: the rows added by each version, with their commit time."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import unquote

from pydantic import Field, model_validator

from wind_kedro.errors import WindKedroError
from wind_kedro.feeds.remote import PassingError
from wind_kedro.storage.bounds import check_parquet, escape, parse_json

from .compaction import COLUMN, foreign_names
from .protocol import Batch, Checkpoint, Feed, FeedError

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable as Table

#: After this many versions without new rows (compactions, deletions), a batch without files saves the checkpoint.
_QUIET_VERSIONS = 10
# Few and short retries of the store: the feed retries by its card.
_STORE_PATIENCE = {"max_retries": "1", "retry_timeout": "30s", "timeout": "60s", "connect_timeout": "10s"}
#: Most bytes of a version's log. Each data file takes about 1 kB of it.
_MAX_LOG_BYTES = 256 << 20
_CHANGE = "_change_type"
_NEW, _OLD = ("insert", "update_postimage"), ("delete", "update_preimage")
#: Data files, as actions of the log, with the change types to read of each (empty: all rows).
_Files = Sequence[tuple[Mapping[str, Any], Sequence[str]]]


@dataclass
class _Commit:
    """One version of the table: commit time, added and removed files, and change data."""

    at: dt.datetime
    added: list[Mapping[str, Any]] = field(default_factory=list)
    removed: list[Mapping[str, Any]] = field(default_factory=list)
    changes: list[Mapping[str, Any]] = field(default_factory=list)


class DeltaTable(Feed):
    """Rows added by each version of a Delta table, one Parquet file per version (``version-….parquet``).

    The rows of a version are those it added minus those it removed, by value: unchanged rows that an update, a merge or an
    overwrite rewrote do not land again, changed ones do; compactions and deletions land nothing. ``committed_at`` is the commit
    time by the clock of the writer.

    The first fetch lands the complete ``first_version``, then the rows of each later version. Credentials have the names of the
    store's options (``aws_access_key_id``, ``aws_secret_access_key``).
    """

    kind: Literal["delta_table"] = "delta_table"
    table: str = Field(description="a folder, or s3://bucket/path")
    storage_options: dict[str, str] = Field(
        default_factory=dict, description="of the store, no secrets: aws_endpoint_url, aws_region, aws_allow_http"
    )
    partitions: dict[str, list[str]] = Field(default_factory=dict, description="partition column: the values to fetch; none: all")
    first_version: int | Literal["latest"] = Field(0, description="first version to fetch")
    committed_at: str = Field("committed_at", description="name of the column with the commit time")
    rows_per_batch: int = Field(
        1_000_000, gt=0, description="versions land together up to this number of rows; a version is never split"
    )

    @model_validator(mode="after")
    def _verifies(self) -> Self:
        if any("invalid_certificates" in name.lower() for name in self.storage_options):
            raise ValueError("storage_options: use `verify_server` to turn the verification of the server off")
        if self.ca_file is not None:
            raise ValueError("ca_file: the store reads the system's certificates only; name yours in SSL_CERT_FILE")
        if self.committed_at.lower() == COLUMN:
            raise ValueError(f"committed_at: '{COLUMN}' is reserved for the landing time; choose another name")
        return self

    def fetch(self, checkpoint: Checkpoint | None, scratch: Path) -> Iterator[Batch]:
        """See `Feed`. The checkpoint holds the table's id and the last landed version."""
        lake = self.retry(lambda: _Lake(self, scratch))
        if checkpoint is not None and checkpoint["table_id"] != lake.id:
            raise self.start_again("another table stands here since the last fetch")
        landed = -1 if checkpoint is None else int(checkpoint["version"])
        if landed > lake.version:
            raise self.start_again(f"it is at version {lake.version}, but version {landed} has landed")
        first = lake.version if self.first_version == "latest" else self.first_version
        if checkpoint is None and first > lake.version:
            raise self.fault(f"{self.table}: it is at version {lake.version}; correct `first_version`")
        version, rows = landed, 0
        files: dict[str, bytes | Path | pa.Table] = {}
        for version in range(first if checkpoint is None else landed + 1, lake.version + 1):
            whole = checkpoint is None and version == first
            path, count = self.retry(partial(lake.land, version, whole))
            if path is not None:
                files[path.name] = path
                rows += count
            if rows >= self.rows_per_batch:
                yield Batch(files, {"table_id": lake.id, "version": version}, rows, lake.faults())
                landed, files, rows = version, {}, 0
        if files or version - landed >= _QUIET_VERSIONS:
            yield Batch(files, {"table_id": lake.id, "version": version}, rows, lake.faults())

    def start_again(self, problem: str, version: int = 0) -> FeedError:
        """The error of a problem after which the table has to be fetched again, from a version on."""
        remedy = f"to start again, move what landed in '{self.into}' aside and set `first_version: {version}`"
        return self.fault(f"{self.table}: {problem}; {remedy}")


class _Lake:
    """Snapshot of a table at the start of a fetch."""

    def __init__(self, feed: DeltaTable, scratch: Path) -> None:
        import pyarrow as pa
        from deltalake.fs import DeltaStorageHandler
        from pyarrow.fs import PyFileSystem

        self._feed = feed
        self._scratch = scratch
        self._escaped: Counter[str] = Counter()
        insecure = {} if feed.verify_server or "://" not in feed.table else {"allow_invalid_certificates": "true"}
        if insecure:
            feed.warn_unverified()
        patience = _STORE_PATIENCE if "://" in feed.table else {}
        secrets = {name: feed.secret(name) for name in feed.credentials}
        self._options = {**insecure, **patience, **feed.storage_options, **secrets}
        table = self._open()
        about = table.metadata()
        self.version = int(table.version())
        self.id = str(about.id)
        self._partitioned_by: Sequence[str] = about.partition_columns or []
        if (mode := about.configuration.get("delta.columnMapping.mode", "none")) != "none":
            raise feed.fault(f"{feed.table}: column mapping '{mode}' is not supported; write it to a plain table")
        if unknown := sorted(set(feed.partitions) - set(self._partitioned_by)):
            known = ", ".join(self._partitioned_by) or "nothing"
            raise feed.fault(f"{feed.table}: is not partitioned by {', '.join(unknown)} but by {known}; correct `partitions`")
        self._files = PyFileSystem(DeltaStorageHandler(feed.table, options=self._options))
        self._schema = pa.schema(table.schema().to_arrow())
        if feed.committed_at in self._schema.names:
            raise feed.fault(f"{feed.table}: has a column '{feed.committed_at}' of its own; give `committed_at` another name")
        columns = [column.with_name(name) for column, name in zip(self._schema, foreign_names(self._schema.names), strict=True)]
        self._landing_schema = pa.schema([*columns, pa.field(feed.committed_at, pa.timestamp("us", "UTC"))])

    def faults(self) -> tuple[str, ...]:
        """Values that were escaped since the last call."""
        found, self._escaped = self._escaped, Counter()
        return tuple(
            f"{count:,} values of column {name!a} are not UTF-8: their bytes are written as \\x.."
            for name, count in found.items()
        )

    def land(self, version: int, whole: bool) -> tuple[Path | None, int]:
        """Write the rows of a version to a file in scratch; return it (none without rows) and the number of rows.

        With ``whole`` all rows of the table at this version, else its changes. Raises `PassingError` if the store does not
        answer, `FeedError` if the version's log or files are gone.
        """
        import pyarrow as pa

        target, count = self._scratch / f"version-{version:020d}.parquet", 0
        try:
            commit = self._commit(version)
            if whole:
                commit = _Commit(commit.at, added=self._active(version))
            new: _Files = [(action, _NEW) for action in commit.changes] or [(action, ()) for action in commit.added]
            old: _Files = [(action, _OLD) for action in commit.changes] or [(action, ()) for action in commit.removed]
            if new and old:
                count = self._write_difference(new, old, commit.at, target)
            elif new:
                count = self._write(new, target, commit.at)
        except FileNotFoundError:
            lost = f"what version {version} brought is no longer kept (vacuum or log clean-up)"
            raise self._feed.start_again(lost, self.version) from None
        except FeedError:
            raise
        except (pa.ArrowException, WindKedroError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise self._feed.fault(f"{self._feed.table}: version {version} cannot be read ({error}); repair the table") from None
        except OSError as error:
            raise PassingError(f"{self._feed.table}: {error}") from None
        return (target if count else None), count

    def _open(self, version: int | None = None) -> Table:
        from deltalake import DeltaTable as Table
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            return Table(self._feed.table, version=version, storage_options=self._options)
        except TableNotFoundError:
            raise self._feed.fault(
                f"{self._feed.table}: there is no Delta table, or these credentials may not read it; correct `table`"
            ) from None
        except (DeltaError, OSError) as error:
            raise PassingError(f"{self._feed.table}: {error}") from None

    def _commit(self, version: int) -> _Commit:
        file = self._files.open_input_file(f"_delta_log/{version:020d}.json")
        if file.size() > _MAX_LOG_BYTES:
            raise self._feed.fault(f"{self._feed.table}: the log of version {version} has {file.size():,} bytes")
        actions = [parse_json(line, "an action of the log") for line in file.read().splitlines() if line.strip()]
        info: Mapping[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
        stamp = info.get("inCommitTimestamp", info.get("timestamp"))
        if stamp is None:  # commitInfo is optional; files are written just before the commit
            stamp = max((action["add"]["modificationTime"] for action in actions if "add" in action), default=0)
        commit = _Commit(dt.datetime.fromtimestamp(stamp / 1000, dt.UTC))
        for action in actions:
            # Compactions have dataChange set to false.
            if "add" in action and action["add"].get("dataChange", True):
                commit.added += self._wanted(action["add"])
            elif "remove" in action and action["remove"].get("dataChange", True):
                commit.removed += self._wanted(action["remove"])
            elif "cdc" in action:
                commit.changes += self._wanted(action["cdc"])
        return commit

    def _active(self, version: int) -> list[Mapping[str, Any]]:
        """Data files of the table at a version, as add actions."""
        import pyarrow as pa

        table = pa.table(self._open(version).get_add_actions(flatten=True))
        columns = [name for name in table.column_names if name == "path" or name.startswith("partition.")]
        found = []
        for row in table.select(columns).to_pylist():
            values = {name: row.get(f"partition.{name}") for name in self._partitioned_by}
            found += self._wanted({"path": row["path"], "partitionValues": values})
        return found

    def _wanted(self, action: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The action as a list, empty if the card does not select its partition."""
        if action.get("deletionVector"):
            raise self._feed.fault(
                f"{self._feed.table}: deletion vectors are not supported; set delta.enableDeletionVectors to false and "
                "REORG TABLE … APPLY (PURGE)"
            )
        if "://" in action["path"]:
            raise self._feed.fault(f"{self._feed.table}: holds files of another table (a shallow clone); fetch that one")
        path = unquote(action["path"])
        is_inside = not path.startswith("/") and ".." not in path.split("/")
        if is_inside and "://" not in self._feed.table:  # of a local table also after resolving links
            folder = Path(self._feed.table).resolve()
            is_inside = (folder / path).resolve().is_relative_to(folder)
        if not is_inside:
            raise self._feed.fault(
                f"{self._feed.table}: its log names {path!a}, which is not inside of the table's folder; repair it"
            )
        values = action.get("partitionValues") or {}
        for name, wanted in self._feed.partitions.items():
            if values.get(name) is None or str(values[name]) not in wanted:
                return []
        return [action]

    def _write_difference(self, new: _Files, old: _Files, at: dt.datetime, target: Path) -> int:
        """Write the multiset difference of the rows of ``new`` and ``old``; return the number of rows."""
        import duckdb
        import pyarrow as pa
        import pyarrow.parquet as pq

        sides = [self._scratch / "new.parquet", self._scratch / "old.parquet"]
        for side, actions in zip(sides, (new, old), strict=True):
            self._write(actions, side, at)
        count = 0
        with duckdb.connect(config={"temp_directory": str(self._scratch / "spill")}) as engine:
            quoted = [str(side).replace("'", "''") for side in sides]
            difference = " EXCEPT ALL ".join(f"FROM read_parquet('{side}')" for side in quoted)
            # Ordered by all columns, so that the file is reproducible.
            reader: pa.RecordBatchReader = engine.sql(f"FROM ({difference}) ORDER BY ALL").to_arrow_reader(100_000)
            with pq.ParquetWriter(target, self._landing_schema) as writer:
                for batch in reader:
                    count += batch.num_rows
                    writer.write_table(pa.Table.from_batches([batch]).cast(self._landing_schema))
        for side in sides:
            side.unlink()
        return count

    def _write(self, actions: _Files, target: Path, at: dt.datetime) -> int:
        """Write the rows of data files to one file, with partition columns and commit time; return the number of rows."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        count = 0
        with pq.ParquetWriter(target, self._landing_schema) as writer:
            for action, changes in actions:
                values = action.get("partitionValues") or {}
                source = self._files.open_input_file(unquote(action["path"]))
                check_parquet(source, ascii(action["path"]))
                source.seek(0)
                with pq.ParquetFile(source) as file:
                    for batch in file.iter_batches():
                        rows = batch
                        if changes:
                            rows = rows.filter(pc.is_in(rows.column(_CHANGE), pa.array(changes, rows.schema.field(_CHANGE).type)))
                        writer.write_batch(self._complete(rows, values, at))
                        count += rows.num_rows
        return count

    def _complete(self, rows: pa.RecordBatch, values: Mapping[str, Any], at: dt.datetime) -> pa.RecordBatch:
        """Rows with all columns of the table: partition columns are not in the files, newer columns not in older files."""
        import pyarrow as pa

        columns: list[pa.Array] = []
        for column in self._schema:
            if column.name in self._partitioned_by:
                columns.append(pa.repeat(_partition_value(values.get(column.name), column.type), rows.num_rows))
            elif column.name in rows.schema.names:
                columns.append(self._as_text(rows.column(column.name).cast(column.type), column.name))
            else:
                columns.append(pa.nulls(rows.num_rows, column.type))
        columns.append(pa.repeat(pa.scalar(at, pa.timestamp("us", "UTC")), rows.num_rows))
        return pa.RecordBatch.from_arrays(columns, schema=self._landing_schema)

    def _as_text(self, column: pa.Array, name: str) -> pa.Array:
        """A text column with invalid UTF-8 escaped, which Parquet does not check and readers refuse; others unchanged."""
        import pyarrow as pa

        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            return column
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            raw = column.cast(pa.binary()).to_pylist()
            texts = [None if value is None else escape(value) for value in raw]
            self._escaped[name] += sum(
                text is not None and text.encode() != value for text, value in zip(texts, raw, strict=True)
            )
            return pa.array(texts, column.type)
        return column


def _partition_value(value: Any, kind: pa.DataType) -> pa.Scalar:
    """Convert a partition's value from the text in the log (empty: null) to the type of its column."""
    import pyarrow as pa

    if value is None or value == "":
        return pa.scalar(None, kind)
    if isinstance(value, str) and pa.types.is_timestamp(kind):
        at = dt.datetime.fromisoformat(value)
        return pa.scalar(at.replace(tzinfo=at.tzinfo or dt.UTC) if kind.tz else at, kind)
    return pa.scalar(value, pa.string()).cast(kind) if isinstance(value, str) else pa.scalar(value, kind)
