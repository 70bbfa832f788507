"""Data of another layout is refused in one line; what is moved aside comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from wind_kedro.storage.layout import LAYOUT, LayoutError, check_layout, layout_of, put_back, record_layout, set_aside


def test_an_empty_environment_gets_the_layout_of_this_version(tmp_path: Path) -> None:
    check_layout(tmp_path / "data")
    assert not (tmp_path / "data").exists()
    record_layout(tmp_path / "data")
    assert (tmp_path / "data/layout.json").read_text() == f'{{"layout": {LAYOUT}}}\n'
    check_layout(tmp_path / "data")


def test_data_of_an_earlier_version_is_to_be_migrated(tmp_path: Path) -> None:
    (tmp_path / "02_intermediate").mkdir()
    (tmp_path / "02_intermediate/signals.parquet").write_bytes(b"")
    with pytest.raises(LayoutError, match=r"earlier version \(layout 1\): kedro wind migrate"):
        check_layout(tmp_path)
    assert not (tmp_path / "layout.json").exists()


def test_data_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    record_layout(tmp_path, LAYOUT + 1)
    with pytest.raises(LayoutError, match=rf"newer version of wind-kedro \(layout {LAYOUT + 1}; this one reads {LAYOUT}\)"):
        check_layout(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"layout": "x"}'])
def test_a_damaged_record_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "layout.json").write_text(content)
    with pytest.raises(LayoutError, match=r"layout\.json: cannot be read"):
        layout_of(tmp_path)


def test_what_is_set_aside_comes_back(tmp_path: Path) -> None:
    table = tmp_path / "07_model_output/forecasts"
    table.mkdir(parents=True)
    (table / "old").write_text("old")
    assert set_aside(tmp_path, [table, tmp_path / "none"]) == {table: tmp_path / "before_migration/07_model_output/forecasts"}
    assert not table.exists()
    table.mkdir()
    (table / "new").write_text("new")
    assert put_back(tmp_path, [table, tmp_path / "none"]) == [table]
    assert (table / "old").read_text() == "old"
    assert (table.with_name("forecasts.after_migration") / "new").read_text() == "new"
