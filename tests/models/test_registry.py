import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from wind_kedro.models import MODELS, ModelConfig, build, load_model
from wind_kedro.models.climatology import Climatology

LEVELS = [0.1, 0.5, 0.9]


def test_each_family_is_registered_under_its_own_name() -> None:
    assert {name: family.type_name() for name, family in MODELS.items()} == {name: name for name in MODELS}
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
            "catboost", {"features": ["power_share"]}, "power_share is what came", id="the target as a feature"
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
        pytest.param({"format": 1, "type": "oracle"}, ValueError, "no model type 'oracle'", id="unknown family"),
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
    (tmp_path / "model.json").write_text(json.dumps({"format": 1, "type": "catboost"}))
    with pytest.raises(ValueError, match="'catboost', not 'climatology'"):
        Climatology.load(tmp_path)


def test_importing_the_models_imports_no_heavy_library() -> None:
    code = "import sys, wind_kedro.models; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"catboost", "sklearn", "scipy", "plotly", "mlflow", "kedro"} & set(loaded)
