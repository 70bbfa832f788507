"""What is kept of a training: whole, by content, once."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest

from wind_kedro import settings
from wind_kedro.configuration import BoundedConfigLoader
from wind_kedro.datasets.training_kit import Kits, NoKitError, TrainingKit, keep_training
from wind_kedro.governance.provenance import Provenance
from wind_kedro.pipelines.training.kit import assemble_training_kit
from wind_kedro.rebuild.reproducing import first_cause


def _table(months: int) -> pd.DataFrame:
    issued = pd.date_range("2024-01-01", periods=months * 30, freq="1D", tz="UTC", unit="us")
    return pd.DataFrame(
        {
            "product_id": "hours", "entity_id": "hill", "issued_at": issued, "valid_at": issued + pd.Timedelta("1h"),
            "wind": np.where(np.arange(len(issued)) % 7, np.arange(len(issued)) / 3, np.nan),
        }
    )  # fmt: skip


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["sorted", "in an order of its own"])
def test_a_table_comes_back_bit_for_bit_in_its_order(tmp_path: Path, order: slice) -> None:
    kits = Kits(tmp_path)
    table = _table(3).iloc[order].reset_index(drop=True)
    pd.testing.assert_frame_equal(kits.get_table(kits.put_table(table)), table, check_exact=True)


def test_what_an_earlier_training_kept_costs_nothing_again(tmp_path: Path) -> None:
    kits = Kits(tmp_path)
    first = kits.put_table(_table(3))
    again = kits.put_table(_table(4))
    assert len(set(again["parts"]) & set(first["parts"])) == 2  # the last month grew
    assert len(list((tmp_path / "objects").rglob("*"))) < 2 * (len(first["parts"]) + len(again["parts"]))


def test_a_part_that_was_changed_or_is_gone_is_named(tmp_path: Path) -> None:
    kits = Kits(tmp_path)
    description = kits.put_table(_table(1))
    path = tmp_path / "objects" / description["parts"][0][:2] / description["parts"][0]
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(NoKitError, match="was changed after it was kept"):
        kits.get_table(description)
    path.unlink()
    with pytest.raises(NoKitError, match="is gone"):
        kits.get_table(description)
    with pytest.raises(NoKitError, match="nothing was kept of training run 'x'"):
        kits.document("x")


def _kept(folder: Path) -> Kits:
    kits = Kits(folder)
    parameters = {"training": {"seed": 1}}
    kit = TrainingKit({"model_input": _table(2)}, parameters, _table(1), Provenance.collect(folder, parameters))
    keep_training(kits, "r", kit, folder / "requirements.lock")
    return kits


def test_the_first_cause_of_a_difference_is_named_in_order(tmp_path: Path) -> None:
    kits = _kept(tmp_path)
    document = kits.document("r")
    now = dict(document["provenance"])
    assert first_cause(kits, document, now).startswith("no cause")
    now["threads"] = "1 core"
    assert first_cause(kits, document, now).startswith("machine: threads was ")
    now["libraries"] = now["libraries"] | {"numpy": "9.9"}
    assert first_cause(kits, document, now).startswith("library: numpy was ")
    now["git_commit"] = "f" * 40
    assert first_cause(kits, document, now).startswith("code: ")
    parameters = document["parameters"]
    (tmp_path / "objects" / parameters[:2] / parameters).write_text("{}")
    assert first_cause(kits, document, now).startswith("configuration: ")
    part = document["tables"]["model_input"]["parts"][0]
    (tmp_path / "objects" / part[:2] / part).unlink()
    assert first_cause(kits, document, now).startswith("data: ")


def test_a_damaged_part_stops_no_later_training_and_is_kept(tmp_path: Path) -> None:
    kits = Kits(tmp_path)
    name = kits.put(b"what was learnt from")
    path = tmp_path / "objects" / name[:2] / name
    path.write_bytes(b"damaged")
    assert kits.put(b"what was learnt from") == name
    assert kits.get(name) == b"what was learnt from"
    assert path.with_name(f"{name}.unreadable-1").read_bytes() == b"damaged"
    (tmp_path / "run.json").write_bytes(b"[" * 100_000)
    with pytest.raises(NoKitError, match=r"run.json: is not signed"):
        kits.document("run")


def test_parameters_come_back_from_a_kit_as_the_fit_got_them(project_path: Path) -> None:
    """In every environment, and of every parameter that the fit takes."""
    from kedro.framework.project import configure_project, pipelines

    configure_project("wind_kedro")
    training = pipelines["training"]
    (fit,) = training.only_nodes("promotion.fit_fleet").nodes
    hints = get_type_hints(fit.func)
    taken = {
        name.removeprefix("params:"): hints[argument]
        for argument, name in zip(inspect.signature(fit.func).parameters, fit.inputs, strict=True)
        if name.startswith("params:")
    }
    assert set(taken) == {"fleet", "clock", "training", "workers"}
    for environment in ("base", "test", "gefcom2014"):
        loader = BoundedConfigLoader(project_path / "conf", environment, **settings.CONFIG_LOADER_ARGS)
        given = {name: kind.model_validate(loader["parameters"][name]) for name, kind in taken.items()}
        kit = assemble_training_kit(_table(1), Provenance.collect(project_path, {}), model_input=_table(2), **given)
        kept = json.loads(json.dumps(kit.parameters))
        assert {name: kind.model_validate(kept[name]) for name, kind in taken.items()} == given
        assert list(kit.tables) == ["model_input"]


def test_the_kit_is_kept_before_the_version_is_registered() -> None:
    from wind_kedro.pipelines.training import create_pipeline

    names = [node.name for node in create_pipeline().nodes]
    assert names.index("promotion.assemble_training_kit") < names.index("promotion.fit_fleet")
