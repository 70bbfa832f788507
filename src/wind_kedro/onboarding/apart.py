"""Copy the configuration with a new farm only, so that assessing its data changes nothing of the fleet."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

#: Name of the environment in the copy.
ENVIRONMENT = "newcomer"


def write_isolated_configuration(
    conf: Path, environment: str, card: Mapping[str, Any], products: Sequence[Mapping[str, Any]], raw: Path, folder: Path
) -> Path:
    """Write the copy.

    Args:
        conf: the project's configuration.
        environment: the environment to which the farm was added.
        card: the farm's card.
        products: the fleet's products, for their granularities; the farm is their only member in the copy.
        raw: the raw folder with the farm's files.
        folder: an empty folder for the copy and its results.

    Returns:
        The copied configuration; `ENVIRONMENT` is the environment to run.
    """
    copied = folder / "conf"
    shutil.copytree(conf, copied)
    own = copied / ENVIRONMENT
    if environment == "base":
        own.mkdir()
    else:
        shutil.copytree(copied / environment, own)
    files = own / "globals.yml"
    shared = (yaml.safe_load(files.read_text("utf-8")) or {}) if files.is_file() else {}
    _write(files, {**shared, "data": str(folder / "data")})
    _write(own / "farms.yml", {"farms": [dict(card)], "groups": []})
    _write(own / "products.yml", {"products": [{**product, "members": [card["id"]]} for product in products]})
    place = folder / "data" / "01_raw"
    place.mkdir(parents=True)
    (place / str(card["id"])).symlink_to((raw / str(card["id"])).absolute(), target_is_directory=True)
    return copied


def _write(path: Path, content: Any) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
