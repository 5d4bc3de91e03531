"""The chart of a usage period: what was used by the end of each day, the quota, and where it is going. As SVG.

The figures, and the words for those who do not see it, are those of messages/charts.py.
"""

from collections.abc import Mapping
from typing import Any

import svg
from markupsafe import Markup

from orchestration.messages import charts

WIDTH, HEIGHT, TOP = 720, 220, 12


def daily_chart(chart: Mapping[str, Any]) -> Markup:
    """`chart` is one of `charts.chart`. The projection begins where the line of use ends: at the last complete day."""
    used, quota, days = chart["used"], chart["quota"], chart["days"]
    ends = [chart[name] for name in ("low", "projected", "high")]
    most = max([used[-1], quota, 1, *(end for end in ends if end is not None)])

    def point(day: float, count: float) -> svg.Point:
        return svg.Point(round(day * WIDTH / days, 1), round(HEIGHT - count * (HEIGHT - TOP) / most, 1))

    line = [point(0, 0), *(point(day, count) for day, count in enumerate(used, 1))]
    last, at_quota = point(len(used), used[-1]), point(0, quota).y
    shapes: list[svg.Element] = [
        svg.Title(text=charts.alternative(chart)),
        svg.Polygon(class_=["area"], points=[*line, svg.Point(last.x, HEIGHT)]),
        svg.Polyline(class_=["used"], points=line),
    ]
    low, projected, high = ends
    if low is not None and high is not None and low < high:
        shapes.insert(1, svg.Polygon(class_=["band"], points=[last, point(days, high), point(days, low)]))
    if projected is not None:
        shapes.append(svg.Polyline(class_=["ahead"], points=[last, point(days, projected)]))
    shapes += [
        svg.Line(class_=["quota"], x1=0, x2=WIDTH, y1=at_quota, y2=at_quota),
        svg.Line(class_=["ground"], x1=0, x2=WIDTH, y1=HEIGHT, y2=HEIGHT),
    ]
    drawing = svg.SVG(
        class_=["chart"],
        viewBox=svg.ViewBoxSpec(0, 0, WIDTH, HEIGHT + 2),
        extra={"role": "img"},
        elements=shapes,
    )
    return Markup(drawing.as_str())  # noqa: S704 - svg.py escapes its texts
