import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from wind_kedro.models.base import FORMAT
from wind_kedro.models.climatology import Climatology
from wind_kedro.models.registry import MODELS, ModelConfig, build, family_of, load_model, with_members

LEVELS = [0.1, 0.5, 0.9]


def test_each_family_is_registered_under_its_own_name() -> None:
    assert {name: family_of(name).type_name for name in MODELS} == {name: name for name in MODELS}
    assert {"climatology", "persistence", "power_curve", "catboost"} <= set(MODELS)


def test_settings_reach_the_model() -> None:
    model = build("champion", ModelConfig(type="catboost", params={"depth": 3}), LEVELS, seed=5)
    assert model.parameters.model_dump()["depth"] == 3
    assert (model.levels, model.seed) == (LEVELS, 5)


@pytest.mark.parametrize(
    ("kind", "params", "says"),
    [
        pytest.param("catboost", {"dept": 3}, "dept", id="unknown setting"),
        pytest.param("catboost", {"depth": 0}, "depth", id="out of range"),
        pytest.param(
            "catboost",
            {"features": ["power_share"]},
            "power_share holds the observed power",
            id="the target as a feature",
        ),
        pytest.param("persistence", {"lead_edges_minutes": [60, 0]}, "must rise", id="edges that fall"),
    ],
)
def test_a_wrong_setting_is_named_with_its_candidate(kind: str, params: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=rf"model 'mine' \({kind}\): .*{says}"):
        build("mine", ModelConfig(type=kind, params=params), LEVELS, seed=0)


def test_an_unknown_family_is_refused_with_those_known() -> None:
    with pytest.raises(ValidationError, match=r"no model type 'oracle'; known are climatology"):
        ModelConfig(type="oracle")


@pytest.mark.parametrize(
    ("card", "error", "says"),
    [
        pytest.param(None, FileNotFoundError, "no model in this folder", id="nothing there"),
        pytest.param({"format": 99, "type": "climatology"}, ValueError, "layout 99", id="later layout"),
        pytest.param({"format": FORMAT, "type": "oracle"}, ValueError, "no model type 'oracle'", id="unknown family"),
    ],
)
def test_a_folder_that_holds_no_model_we_can_read(
    tmp_path: Path, card: dict[str, object] | None, error: type[Exception], says: str
) -> None:
    if card:
        (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(error, match=says):
        load_model(tmp_path)


def test_one_family_does_not_read_the_files_of_another(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"format": FORMAT, "type": "catboost"}))
    with pytest.raises(ValueError, match="'catboost', not 'climatology'"):
        Climatology.load(tmp_path)


def test_importing_the_models_imports_no_heavy_library() -> None:
    code = "import sys, wind_kedro.models; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"catboost", "lightgbm", "sklearn", "scipy", "skops", "plotly", "mlflow", "kedro"} & set(loaded)


# --- own classes ---


def test_the_block_of_the_docs_makes_the_class_of_the_docs(project_path: Path) -> None:
    page = (project_path / "docs/how-to/add-a-model.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)]
    first, *others = blocks
    candidates = first["training"]["candidates"]
    for block in others:
        candidates |= block
    candidates |= {"quantile_forest": {"type": "quantile_forest"}, "boosting": {"type": "boosting"}}
    configs = with_members({name: ModelConfig.model_validate(config) for name, config in candidates.items()})
    made = {name: build(name, config, LEVELS, seed=0) for name, config in configs.items()}
    assert type(made["analogs"]).__name__ == "Analogs"
    assert made["analogs"].parameters.model_dump()["hours"] == 100
    assert made["ridge"].parameters.model_dump()["settings"] == {"alpha": 10.0}
    assert list(made["forest_and_boosting"].parameters.model_dump()["members"]) == ["quantile_forest", "boosting"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        pytest.param("wind_models.missing.Model", "No module named 'wind_models.missing'", id="no such module"),
        pytest.param("wind_models.analogs.Missing", "no attribute 'Missing'", id="no such class"),
        pytest.param("wind_models.analogs.AnalogParameters", "it is no Forecaster", id="another class"),
        pytest.param("subprocess.Popen", "no model type 'subprocess.Popen'; known are", id="Python's own library"),
        pytest.param("wind_kedro.models.climatology.Climatology", "calls itself 'climatology'", id="one with a word"),
    ],
)
def test_an_import_path_that_is_no_model_is_refused(path: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ModelConfig(type=path)


def test_a_saved_model_cannot_name_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"format": FORMAT, "type": "os.system"}))
    with pytest.raises(ValueError, match=r"no model type 'os\.system'"):
        load_model(tmp_path)


# --- blends ---


def test_a_blend_takes_what_its_members_are_set_to() -> None:
    candidates = {
        "curve": ModelConfig(type="power_curve", params={"bin_width_ms": 1.0}, features=["wind_*"]),
        "both": ModelConfig(type="blend", params={"members": ["curve"], "folds": 0}),
    }
    both = with_members(candidates)["both"].params
    assert both == {
        "members": {"curve": {"type": "power_curve", "params": {"bin_width_ms": 1.0}, "features": ["wind_*"]}},
        "folds": 0,
    }


@pytest.mark.parametrize("member", ["oracle", "both"])
def test_a_blend_of_what_there_is_not_is_refused(member: str) -> None:
    candidates = {
        "curve": ModelConfig(type="power_curve"),
        "both": ModelConfig(type="blend", params={"members": ["curve", member]}),
    }
    with pytest.raises(ValueError, match=rf"blend 'both' has no member '{member}' to take; there are curve"):
        with_members(candidates)


# --- extras ---


def test_without_its_extra_lightgbm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    model = build("it", ModelConfig(type="lightgbm"), LEVELS, seed=0)
    rows = pd.DataFrame({"wind": [1.0, 2.0]})
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'wind-kedro\[lgbm\]'"):
        model.fit(rows, pd.Series([0.1, 0.2]))
