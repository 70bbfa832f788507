"""What every figure and page must be."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

#: The largest page that mail and chat systems commonly let pass inline, bytes.
LARGEST_PAGE_BYTES = 6_000_000


def readable(figure: Any) -> Any:
    """The figure; `ValueError` if it has no title, or an axis that does not say what it shows."""
    layout = figure.to_dict()["layout"]
    title = layout.get("title", {}).get("text")
    if not title:
        raise ValueError("the figure has no title")
    axes = {name: axis for name, axis in layout.items() if re.fullmatch(r"[xy]axis\d*", name)}
    used = {name for trace in figure.data for name in _axes_of(trace)}
    mute = sorted(
        name
        for name in used | set(axes)
        # An axis that shows no ticks of its own borrows the title of the one it matches.
        if axes.get(name, {}).get("showticklabels") is not False and not axes.get(name, {}).get("title", {}).get("text")
    )
    if mute:
        raise ValueError(f"figure '{title}': no title on {', '.join(mute)}")
    return figure


def _axes_of(trace: Any) -> list[str]:
    if trace.type not in {"scatter", "bar", "heatmap", "box"}:
        return []
    return [f"{letter}axis{(trace[f'{letter}axis'] or letter)[1:]}" for letter in "xy"]


def self_contained(page: str) -> str:
    """The page; `ValueError` with what it would load, how large it is, or that it names no language or title."""
    size = len(page.encode())
    if size > LARGEST_PAGE_BYTES:
        raise ValueError(f"the page has {size / 1e6:.1f} MB; at most {LARGEST_PAGE_BYTES / 1e6:.0f} MB may be sent around")
    reader = _PageReader()
    reader.feed(page)
    reader.close()
    faults = [f"it would load {what}" for what in reader.loads]
    faults += [f"it has no {what}" for what in ("html lang", "title", "main") if what not in reader.found]
    if faults:
        raise ValueError("the page is not self-contained: " + "; ".join(faults))
    return page


class _PageReader(HTMLParser):
    """Collects what a browser would fetch. A link that a reader may click is no load."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.found: set[str] = set()
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._style = tag == "style"
        self.found.add(tag)
        for name, value in attrs:
            if tag == "html" and name == "lang" and value:
                self.found.add("html lang")
            loading = name in {"src", "srcset", "poster", "data"} or (name == "href" and tag not in {"a", "area"})
            if loading and value and not value.startswith(("data:", "#")):
                self.loads.append(f"<{tag} {name}={value[:80]!r}>")
            if name == "style" and value:
                self._read_style(value)

    def handle_endtag(self, tag: str) -> None:
        if tag == "style":
            self._style = False

    def handle_data(self, data: str) -> None:
        if self._style:
            self._read_style(data)

    def _read_style(self, text: str) -> None:
        for match in re.finditer(r"@import[^;]*|url\(\s*['\"]?(?!data:|#)[^)]*\)", text):
            self.loads.append(f"style {match.group()[:80]!r}")
