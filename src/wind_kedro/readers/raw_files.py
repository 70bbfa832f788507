"""Manifest of the raw files that a run reads, with their checksums."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from wind_kedro.cards import Farm
from wind_kedro.datasets.files import read_whole
from wind_kedro.datasets.parts import why_unreadable
from wind_kedro.governance.provenance import file_sha256
from wind_kedro.readers.source_files import files_of
from wind_kedro.readers.source_rows import shown
from wind_kedro.storage.paths import data_path

logger = logging.getLogger(__name__)

_COLUMNS = ["farm_id", "source_table", "path", "bytes", "modified_ns", "sha256"]


class RawFiles(AbstractDataset[NoReturn, pd.DataFrame]):
    """Read-only: one row per farm and raw file that its card names, with size and checksum.

    A checksum is taken from the previous run's ``manifest`` if size and time of the file are unchanged. Raw files are never
    changed in place; remove the manifest to compute all checksums again. ``farms`` are cards, whose paths start from ``root``.
    """

    def __init__(
        self, *, root: str, farms: Sequence[Mapping[str, Any]], manifest: str, metadata: dict[str, Any] | None = None
    ) -> None:
        self._root = data_path(root, "root")
        self._farms = farms
        self._manifest = data_path(manifest, "manifest")
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Build the manifest; missing sources have no row."""
        known: dict[tuple[Any, ...], str] = {}
        if self._manifest.is_file():
            try:
                before = read_whole(self._manifest, columns=["path", "bytes", "modified_ns", "sha256"])
                known = {tuple(row[:3]): row[3] for row in before.itertuples(index=False, name=None)}
            except Exception as error:  # any parser error: the checksums are computed again
                logger.warning("%s: %s; all checksums are computed again", self._manifest, why_unreadable(error))
        rows = []
        for farm in (Farm.model_validate(card) for card in self._farms):
            for table, sources in (("signals", [farm.signals]), ("weather", farm.weather)):
                for path in dict.fromkeys(path for source in sources for path in files_of(self._root, source)):
                    if not path.is_file():
                        continue
                    try:
                        state = path.stat()
                        key = (shown(path, self._root), state.st_size, state.st_mtime_ns)
                        if key not in known:
                            known[key] = file_sha256(path)
                    except OSError:  # `SourceTable` reports unreadable files
                        continue
                    rows.append((farm.id, table, *key, known[key]))
        return pd.DataFrame(rows, columns=_COLUMNS)

    def save(self, data: NoReturn) -> NoReturn:
        """Raw files are never written."""
        raise DatasetError("raw files are never written")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"root": str(self._root), "farms": [card.get("id") for card in self._farms]}
