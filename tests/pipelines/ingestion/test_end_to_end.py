"""The room as people run it: what lands, what is recorded, what a failed feed costs, and that no secret is written down."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from kedro.framework.session import KedroSession

from wind_kedro.cli import cli
from wind_kedro.configuration import ConfigurationError, read_secrets
from wind_kedro.datasets import read_table
from wind_kedro.feeds import FEEDS, FeedCards, build_feeds

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).parents[3]
SECRET = "n0t-for-anybodys-eyes"  # noqa: S105 - of nothing


@pytest.fixture
def project(make_project: Callable[[], Path], inside: Callable[[Path], Path], tmp_path: Path) -> Path:
    """A project with two feeds, of which one has no folder to read from."""
    folder = inside(make_project())
    (tmp_path / "drop").mkdir()
    drop = {"kind": "drop_folder", "settle_seconds": 0, "credentials": "coast"}
    feeds = {
        "lost": {**drop, "url": str(tmp_path / "nowhere"), "into": "lost"},
        "coast": {**drop, "url": str(tmp_path / "drop"), "glob": "**/*.csv", "into": "coast/share"},
    }
    (folder / "conf/feeds").mkdir()
    (folder / "conf/feeds/parameters_ingestion.yml").write_text(yaml.safe_dump({"feeds": feeds}, sort_keys=False))
    (folder / "conf/local/credentials.yml").write_text("coast: {password: '${oc.env:WIND_KEDRO_TEST_SECRET}'}")
    return folder


def run(folder: Path, **parameters: Any) -> None:
    with KedroSession.create(project_path=folder, env="feeds", runtime_params=parameters, save_on_close=False) as session:
        session.run(pipeline_names=["ingestion"])


def record(folder: Path) -> pd.DataFrame:
    return read_table(folder / "data/02_intermediate/landings")


def test_a_feed_that_fails_costs_its_line_and_the_others_land(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="wind_kedro")
    monkeypatch.setenv("WIND_KEDRO_TEST_SECRET", SECRET)
    (tmp_path / "drop" / "a.csv").write_text("a")
    run(project)  # returns: what failed is a row
    failed = pd.read_parquet(project / "data/07_model_output/failures/ingestion.parquet")
    assert failed[["stage", "code", "severity"]].to_numpy().tolist() == [["ingestion", "feed_failed", "error"]]
    (message,) = failed["message"]
    assert message.startswith("feed 'lost': ")
    assert "no such folder" in message
    assert "\n" not in message

    (tmp_path / "drop" / "b.csv").write_text("bb")
    run(project, only="coast")
    run(project, only="coast")
    rows = record(project)
    assert list(zip(rows["feed_id"], rows["files"], rows["bytes"], strict=True)) == [
        ("lost", 0, 0),
        ("coast", 1, 1),
        ("coast", 1, 2),
    ]
    assert rows["fault"].ne("").tolist() == [True, False, False]
    landed = rows.loc[rows["folder"] != "", "folder"]
    assert [sorted(p.name for p in (project / "data/01_raw" / one).glob("[!_]*")) for one in landed] == [
        ["a.csv"],
        ["b.csv"],
    ]
    assert (dt.datetime.now(dt.UTC) - rows["landed_at"].max()).total_seconds() < 60
    written = [path for path in project.rglob("*") if path.is_file()]
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in caplog.text


def test_the_exit_code_of_the_command_follows_from_the_failures(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIND_KEDRO_TEST_SECRET", SECRET)
    words = ["run", "--env", "feeds", "--pipeline", "ingestion"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 1
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    assert line.startswith("Error: feed 'lost': ")
    assert SECRET not in result.output
    assert CliRunner().invoke(cli, [*words, "--params", "only=coast"]).exit_code == 0
    (project / "conf/feeds/parameters_monitoring.yml").write_text("monitoring: {exit_code_on: never}")
    assert CliRunner().invoke(cli, words).exit_code == 0


def test_catalog_and_parameters_hold_the_name_of_a_secret_only(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIND_KEDRO_TEST_SECRET", SECRET)
    with KedroSession.create(project_path=project, env="feeds", save_on_close=False) as session:
        context = session.load_context()
        cards = context.params["feeds"]
        assert cards.root["coast"]["credentials"] == "coast"
        assert SECRET not in repr(context.params) + repr(context.catalog.to_config())
        feeds = build_feeds(cards.with_secrets(read_secrets))
        assert feeds["coast"].secret("password") == SECRET
        assert SECRET not in repr(feeds)
        with pytest.raises(ConfigurationError, match=r"^credentials 'other' are in no credentials\.yml"):
            read_secrets("other")


def test_every_block_that_stands_ready_is_a_card_and_every_kind_has_one() -> None:
    parameters = yaml.safe_load((PROJECT / "conf/feeds/parameters_ingestion.yml").read_text("utf-8"))
    blocks = FeedCards.model_validate(yaml.safe_load((PROJECT / "conf/feeds/examples.yml").read_text("utf-8"))).with_secrets(
        lambda name: {}
    )
    assert {feed.kind for feed in build_feeds(blocks).values()} == set(FEEDS)
    assert build_feeds(FeedCards.model_validate(parameters["feeds"]).root)
