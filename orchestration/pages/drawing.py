"""Charts as SVG, drawn on the server: no script, no picture file. Colours are classes of static/pages.css.

Each has a title, which is its text alternative. Shapes are svg.py's, which escapes nothing: every text goes through
`written`. Altair with vl-convert draws more than is needed here, and takes 100 MB and a tenth of a second for a chart.
"""

from collections.abc import Sequence

import svg
from markupsafe import Markup, escape

from orchestration.usage.formatting import printable


def written(text: str) -> str:
    """A text as it stands between the tags of an SVG."""
    return str(escape(printable(text)))


def sparkline(days: Sequence[int], said: str = "") -> Markup:
    """Usage of complete days as a line, the largest day on top. `said` is for those who do not see it."""
    width, height, top = 96, 24, max(days, default=0) or 1
    step = width / max(len(days) - 1, 1)
    points = [
        svg.Point(round(at * step, 1), round(height - 2 - used * (height - 4) / top, 1)) for at, used in enumerate(days)
    ]
    return Markup(  # noqa: S704 - its text is escaped above
        svg.SVG(
            class_=["sparkline"],
            viewBox=svg.ViewBoxSpec(0, 0, width, height),
            width=width,
            height=height,
            extra={"role": "img"},
            elements=[svg.Title(text=written(said or f"{len(days)} days")), svg.Polyline(points=points)]
            if days
            else [],
        ).as_str()
    )
