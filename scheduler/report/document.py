"""A page as one HTML text: figures as data, style and script inlined, nothing fetched.

Decides how a page is put together and in how many bytes; must never know what is on it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the script draws: plotly figures by name, and the swim-lanes. Filled section by section."""

    figures: dict[str, Any]
    payload: dict[str, Any]

    def plot(self, name: str, figure: go.Figure, **attributes: object) -> str:
        """Keep the figure, and give the element that it is drawn into."""
        self.figures[name] = json.loads(figure.to_json())
        self.figures[name]["layout"].pop("template", None)
        height = figure.layout.height
        extra = "".join(f' data-{key}="{escape(str(value))}"' for key, value in attributes.items())
        return f'<div class="plot" data-figure="{name}"{extra} style="height:{height}px"></div>'


def document(title: str, body: str, page: Page) -> str:
    """The whole text. `<` is written as an escape in data, so that no name ends the script."""
    data = json.dumps({"figures": page.figures, "lanes": page.payload}, separators=(",", ":"), allow_nan=False)
    here = files("scheduler.report")
    style = here.joinpath("page.css").read_text("utf-8")
    script = here.joinpath("page.js").read_text("utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<link rel=icon href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E\">"
        f"<title>{escape(title)}</title><style>{style}</style></head><body>{body}"
        f'<script type="application/json" id="page-data">{data.replace("<", chr(92) + "u003c")}</script>'
        f"<script>{get_plotlyjs()}</script><script>{script}</script></body></html>"
    )
