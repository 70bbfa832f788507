"""Class ``signals_text``: text files of signals, damaged in every stage of their making."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from .cases import Case, Step, generator
from .exports import MUTATIONS, STAGES, Export, blank_export, encode, pack, render, write
from .oracle import Verdict, judge_rows
from .project import Ended, World, edit_yaml, run

LAYOUTS = ("table", "wide", "long")
_EVERY = [(stage, name) for stage in STAGES for name in MUTATIONS[stage]]
#: Damages that leave nothing of the file, or say alone what must become of it: no other is put on top.
_ALONE = {
    "errors_in_every_power_cell",
    "errors_in_every_stamp",
    "only_a_header",
    "without_any_newline",
    "empty",
    "only_blanks",
    "another_kind_of_file",
    "a_bomb",
    "no_file",
    "a_pipe_of_that_name",
    "a_link_to_nowhere",
    "cut_in_the_middle",
    "only_cr",
    "many_columns",
    "brackets_beside_the_plain_name",
    "a_name_that_is_a_pattern",
    "a_long_line",
}


def make_export(world: World, seed: int, number: int) -> Export:
    """The export of a case: each mutation alone first, then two or three at random."""
    rng = generator("signals_text", number, seed)
    layout = str(rng.choice(LAYOUTS, p=[0.6, 0.25, 0.15]))
    if number < len(_EVERY):
        chosen = [_EVERY[number]]
    else:
        count = int(rng.integers(2, 4))
        picked = [_EVERY[int(one)] for one in rng.choice(len(_EVERY), count, replace=False)]
        # One of a stage beyond records and lines: two ways of encoding, packing or naming contradict one another.
        chosen, stages = [], set()
        for stage, name in picked:
            if name in _ALONE or (stage in stages and stage not in {"records", "lines"}):
                continue
            chosen.append((stage, name))
            stages.add(stage)
        chosen = chosen or [picked[0]]
    export = blank_export(world, f"h{number:04d}", rng, layout)
    apply(export, chosen)
    return export


def apply(export: Export, chosen: Sequence[tuple[str, str]]) -> None:
    """Make the export, with mutations."""
    made = {"records": render, "lines": _encode, "bytes": pack}
    for stage in STAGES:
        for of, name in chosen:
            if of == stage:
                MUTATIONS[stage][name](export)
                export.done.append(name)
        if stage in made:
            made[stage](export)


def _encode(export: Export) -> None:
    try:
        encode(export)
    except UnicodeEncodeError:
        export.card["signals"]["encoding"] = "utf-8"
        encode(export)


@dataclass
class SignalsCase(Case):
    """A farm more, whose signals are hostile."""

    export: Export = field(kw_only=True)

    def prepare(self, project: Path) -> None:
        """Add the farm's card and files."""
        add_farm(project, self.export)

    def steps(self) -> list[Step]:
        """A run of data_engineering."""
        return [run("data_engineering")]

    @property
    def spoilt(self) -> set[str]:
        """The farm."""
        return {self.export.farm_id}

    def judge(self, project: Path, ended: list[Ended], found: dict[str, pd.DataFrame], *, alone: bool) -> Verdict:
        """What became of its rows."""
        return judge_rows(self.export, ended[-1], found, alone=alone)


def add_farm(project: Path, export: Export) -> None:
    """Put the card and the files of an export into a project."""
    edit_yaml(project / "conf/test/farms.yml", lambda content: content["farms"].append(export.card))
    write(export, project / "data/test/01_raw")


def make(world: World, seed: int, number: int) -> SignalsCase:
    """A case of this class."""
    export = make_export(world, seed, number)
    return SignalsCase("signals_text", number, seed, [export.layout, *export.done], export=export)


#: How many cases a full run has: every mutation alone, and half as many mixtures.
COUNT = len(_EVERY) + len(_EVERY) // 2
