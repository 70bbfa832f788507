"""Pages: one self-contained HTML text from a template of this folder, with Plotly, the style and its figures inside."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from wind_kedro.pipelines.reporting import views
from wind_kedro.pipelines.reporting.documents import Figure
from wind_kedro.pipelines.reporting.figures import READINGS


def render(template: str, figures: Mapping[str, Figure], **facts: Any) -> str:
    """The page of a template. It loads nothing, and holds no wall clock and no random names: equal facts give equal bytes."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    room = resources.files(__package__)
    environment = Environment(
        loader=FunctionLoader(lambda name: (room / name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(template).render(
        facts,
        figures={
            # '<' may not stand in a script element as it is: it could end it.
            name: Markup((figure.to_json() or "{}").replace("<", "\\u003c"))  # noqa: S704 - JSON, made safe just here
            for name, figure in figures.items()
        },
        style=Markup((room / "report.css").read_text("utf-8")),  # noqa: S704 - our own file
        plotly=Markup(get_plotlyjs()),  # noqa: S704 - Plotly's own file
    )


def reading(code: str) -> str:
    """A reading of time stamps in words."""
    return READINGS.get(code, code)


def percent(share: float | None, digits: int = 1) -> str:
    """A share in per cent; a dash where it is not known."""
    return "–" if share is None else f"{share * 100:.{digits}f} %".replace("-", "−")


def mwh(energy: float) -> str:
    """An energy: two digits are what a day's forecast is good for; small farms keep one behind the point."""
    return f"{energy:,.0f}" if energy >= 10 else f"{energy:.1f}"  # noqa: PLR2004


def moment(time: dt.datetime) -> str:
    """Date and time of day, UTC."""
    return f"{views.date_words(time)}, {time:%H:%M} UTC"


FILTERS: Mapping[str, Callable[..., str]] = {
    "percent": percent,
    "mwh": mwh,
    "mw": lambda kw: f"{kw / views.KW_PER_MW:,.1f}",
    "moment": moment,
    "day": views.date_words,
    "count": lambda number: f"{number:,}",
    "words": lambda code: code.replace("_", " "),
    "reading": reading,
    "hours": lambda minutes: f"{minutes / views.MINUTES_PER_HOUR:g}",
}
