"""The configuration loader reads what Kedro's reads, faster where there are many cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader

from wind_kedro.configuration import BoundedConfigLoader
from wind_kedro.settings import CONFIG_LOADER_ARGS

ENVIRONMENTS = ["base", "feeds", "fleet", "gefcom2012", "gefcom2014", "test"]


def _both(conf: Path, environment: str, kind: str) -> list[Any]:
    # One after the other: the resolvers of globals are the process's.
    return [loader(str(conf), env=environment, **CONFIG_LOADER_ARGS)[kind] for loader in (OmegaConfigLoader, BoundedConfigLoader)]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("kind", ["globals", "parameters", "catalog"])
def test_every_environment_is_read_as_kedro_reads_it(project_path: Path, environment: str, kind: str) -> None:
    expected, found = _both(project_path / "conf", environment, kind)
    assert {name: value for name, value in found.items() if name != "provenance"} == expected


@pytest.mark.parametrize(
    ("base", "overlay", "expected"),
    [
        ("a: ${globals:cards}", "", {"a": [{"id": "one"}, {"id": "two"}]}),
        ("a: {b: '${globals:nested.deep}'}", "", {"a": {"b": {"k": [1, 2]}}}),
        ("a: ${globals:nested.text}/x", "", {"a": "word/x"}),
        ("a: '${globals:missing,other}'", "", {"a": "other"}),
        ("a: '${globals:nothing,other}'", "", {"a": None}),
        ("a: '${globals:missing,${globals:cards}}'", "", {"a": [{"id": "one"}, {"id": "two"}]}),
        ("a: {b: 1, c: [1, 2], d: {e: 1}}", "a: {c: [3], d: null}", {"a": {"b": 1, "c": [3], "d": None}}),
        ("a: {b: {c: 1, d: 2}}", "a: {b: {d: 3, e: 4}}\nf: 5", {"a": {"b": {"c": 1, "d": 3, "e": 4}}, "f": 5}),
        ("a: 1", "a: {b: 1}", {"a": {"b": 1}}),
    ],
)
def test_references_and_overlays_are_resolved_as_kedro_does(tmp_path: Path, base: str, overlay: str, expected: Any) -> None:
    for name in ("base", "local"):
        (tmp_path / name).mkdir()
    (tmp_path / "base/globals.yml").write_text(
        "cards: [{id: one}, {id: two}]\nnested: {deep: {k: [1, 2]}, text: word}\nnothing: null\n"
    )
    (tmp_path / "base/parameters.yml").write_text(base)
    (tmp_path / "local/parameters.yml").write_text(overlay or "{}")
    kedro, found = _both(tmp_path, "local", "parameters")
    assert kedro == expected
    assert {name: value for name, value in found.items() if name != "provenance"} == expected


def test_what_refers_to_a_list_of_the_globals_has_one_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/globals.yml").write_text("cards: [{id: one}]\n")
    (tmp_path / "base/parameters.yml").write_text("a: ${globals:cards}\nb: ${globals:cards}\n")
    loader = BoundedConfigLoader(str(tmp_path), env="base", **CONFIG_LOADER_ARGS)
    loader["parameters"]["a"][0]["id"] = "changed"
    assert loader["parameters"]["b"] == loader["globals"]["cards"] == [{"id": "one"}]
