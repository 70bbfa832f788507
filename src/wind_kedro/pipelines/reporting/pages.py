"""Render self-contained HTML pages from the templates of this folder, with Plotly, style and figures embedded."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from wind_kedro.pipelines.reporting import views
from wind_kedro.pipelines.reporting.documents import Figure
from wind_kedro.pipelines.reporting.drawing import plain
from wind_kedro.pipelines.reporting.farm_figures import READINGS


def render(template: str, figures: Mapping[str, Figure], **facts: Any) -> str:
    """Render a template. The page loads no external resource, and equal facts give equal bytes."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    folder = resources.files(__package__)
    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(template).render(
        facts,
        figures={
            # An unescaped '<' could end the script element.
            name: Markup((figure.to_json() or "{}").replace("<", "\\u003c"))  # noqa: S704 - JSON, made safe just here
            for name, figure in figures.items()
        },
        style=Markup((folder / "report.css").read_text("utf-8")),  # noqa: S704 - our own file
        plotly=Markup(get_plotlyjs()),  # noqa: S704 - Plotly's own file
    )


def reading(code: str) -> str:
    """Description of a reading of time stamps."""
    return READINGS.get(code, code)


def percent(share: float | None, digits: int = 1) -> str:
    """Format a share as per cent; a dash if it is unknown."""
    return "–" if share is None else f"{share * 100:.{digits}f} %".replace("-", "−")


def mwh(energy: float) -> str:
    """Format an energy: whole numbers from 10 on, else one decimal."""
    return f"{energy:,.0f}" if energy >= 10 else f"{energy:.1f}"  # noqa: PLR2004


def moment(time: dt.datetime) -> str:
    """Date and time of day, UTC."""
    return f"{views.format_date(time)}, {time:%H:%M} UTC"


FILTERS: Mapping[str, Callable[..., str]] = {
    "percent": percent,
    "mwh": mwh,
    "mw": lambda kw: f"{kw / views.KW_PER_MW:,.1f}",
    "moment": moment,
    "day": views.format_date,
    "count": lambda number: f"{number:,}",
    "plain": plain,
    "place": views.format_place,
    "reading": reading,
    "hours": lambda minutes: f"{minutes / views.MINUTES_PER_HOUR:g}",
}
