"""Charts of an account as SVG: usage of the period against the quota, and bars by day or by hour.

Each is drawn twice, for a wide page and for a phone, since a text that shrinks with its chart cannot be read; the style
sheet shows one of them. What they show is beside them as text, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import svg
from markupsafe import Markup

from orchestration.messages.figures import short
from orchestration.pages.drawing import written

Size = tuple[int, int]
NARROW, WIDE = (360, 240), (960, 300)
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 22, 26
_ROOM = 14
"""Between two texts above each other."""
_HALF_A_DATE = 20
"""Of a text below the axis, so that the last one is whole."""
_LETTER = 7
"""The width of one, about."""
_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Mark:
    """Something that happened in the period."""

    at: datetime
    text: str
    units: int | None = None
    """How much was used then; None marks the moment alone."""


@dataclass(frozen=True)
class Level:
    """An amount that is marked all along the period."""

    text: str
    units: int


@dataclass(frozen=True)
class Bar:
    """A day, or an hour of the day."""

    label: str
    units: int
    is_partial: bool = False
    """It still runs."""


class _Plane:
    """From days and units to the points of a picture."""

    def __init__(self, size: Size, days: float, top: int) -> None:
        self.width, self.height = size
        self.days, self.top = max(days, 1), max(top, 1)

    def x(self, days: float) -> float:
        room = self.width - _LEFT - _RIGHT
        return round(_LEFT + min(max(days / self.days, 0), 1) * room, 1)

    def y(self, units: float) -> float:
        room = self.height - _TOP - _BOTTOM
        return round(self.height - _BOTTOM - units / self.top * room, 1)

    @property
    def bottom(self) -> float:
        return self.y(0)


def period_chart(
    chart: Mapping[str, Any],
    now: tuple[datetime, int | None],
    marks: Sequence[Mark],
    said: str,
    levels: Sequence[Level] = (),
) -> Markup:
    """Usage of the period up to `now`, with what is used, the quota, and the projection with its band.

    `chart` is that of messages/charts.py, with `adds_up`. Quota and projection are the marts'.
    """
    return _alternating(lambda size: _period(chart, now, marks, levels, said, size), (WIDE, NARROW))


def bar_chart(bars: Sequence[Bar], unit: str, said: str, sizes: Sequence[Size] = ((960, 200), (360, 180))) -> Markup:
    """A bar for each of `bars`, from zero, the largest one on top. Of two sizes the first is for wide pages."""
    return _alternating(lambda size: _bars(bars, unit, said, size), sizes)


def _alternating(draw: Callable[[Size], svg.SVG], sizes: Sequence[Size]) -> Markup:
    """One picture for any page, or one for wide and one for narrow pages."""
    shown = ("at-wide", "at-narrow") if len(sizes) > 1 else ("at-any",)
    pictures = [draw(size) for size in sizes]
    for picture, name in zip(pictures, shown, strict=True):
        picture.class_ = [*(picture.class_ or []), name]
    return Markup("".join(picture.as_str() for picture in pictures))  # noqa: S704 - all texts in them are `written`


def scale(largest: int) -> list[int]:
    """Round figures from 0 to above the largest, three to six of them."""
    power = 1
    while True:
        for step in (each * power for each in _STEPS):
            if largest <= 4 * step:
                return [step * number for number in range(max(-(-largest // step), 2) + 1)]
        power *= 10


def _period(
    chart: Mapping[str, Any],
    now: tuple[datetime, int | None],
    marks: Sequence[Mark],
    levels: Sequence[Level],
    said: str,
    size: Size,
) -> svg.SVG:
    start = datetime.combine(date.fromisoformat(chart["from"]), time(), UTC)
    at, used_now = now
    quota, unit = chart["quota"], chart["unit"]
    has_forecast = chart["is_forecast"] and chart["projected"] is not None
    ends = [chart["projected"], chart["high"] or 0] if has_forecast else []
    ticks = scale(max(quota, used_now or 0, *(each or 0 for each in chart["used"]), *ends))
    plane = _Plane(size, chart["days"], ticks[-1])

    def days(moment: datetime) -> float:
        return (moment - start) / timedelta(days=1)

    points: list[tuple[float, int]] = [
        (number + 1, units) for number, units in enumerate(chart["used"]) if units is not None
    ]
    points = [(0, 0 if chart["adds_up"] or not points else points[0][1]), *points]
    if used_now is not None and days(at) > points[-1][0]:
        points.append((days(at), used_now))
    line = [svg.Point(plane.x(day), plane.y(units)) for day, units in points]
    last = points[-1]
    drawn: list[svg.Element] = [*_grid(plane, ticks, unit), *_dates(plane, start.date(), chart["days"])]
    area = [*line, svg.Point(plane.x(last[0]), plane.bottom), svg.Point(plane.x(points[0][0]), plane.bottom)]
    drawn.append(svg.Polygon(class_=["area"], points=area))
    if has_forecast:
        drawn += _forecast(plane, chart, last, unit)
    drawn += _levels(plane, levels, quota)
    drawn += _quota(plane, quota, unit)
    drawn.append(svg.Polyline(class_=["used"], points=line))
    drawn += _marks(plane, [(days(mark.at), mark) for mark in marks])
    return _picture("period", plane, drawn, said)


def _forecast(plane: _Plane, chart: Mapping[str, Any], last: tuple[float, int], unit: str) -> list[svg.Element]:
    """From what is used now to the end of the period: the band is an area of its own, the line is dashed."""
    begin = svg.Point(plane.x(last[0]), plane.y(last[1]))
    end, projected = plane.x(chart["days"]), plane.y(chart["projected"])
    drawn: list[svg.Element] = []
    if chart["low"] is not None and chart["high"] is not None:
        band = [begin, svg.Point(end, plane.y(chart["high"])), svg.Point(end, plane.y(chart["low"]))]
        drawn.append(svg.Polygon(class_=["band"], points=band))
    drawn.append(svg.Polyline(class_=["projected"], points=[begin, svg.Point(end, projected)]))
    text = f"projected {short(chart['projected'], unit)}"
    top = plane.y(max(chart["projected"], chart["high"] or 0)) - 6
    return [*drawn, _text(end, max(top, 12), text, "end", "label")]


def _quota(plane: _Plane, quota: int, unit: str) -> list[svg.Element]:
    y = plane.y(quota)
    line = svg.Line(class_=["quota"], x1=_LEFT, x2=plane.width - _RIGHT, y1=y, y2=y)
    return [line, _text(_LEFT + 6, y - 6, f"quota {short(quota, unit)}", "start", "label limit")]


def _levels(plane: _Plane, levels: Sequence[Level], quota: int) -> list[svg.Element]:
    """A thin line for each, with its text at the right. The quota has its own. Higher ones are left out."""
    drawn: list[svg.Element] = []
    right = plane.width - _RIGHT
    for level in levels:
        if level.units == quota or level.units > plane.top:
            continue
        y, end = plane.y(level.units), right - _LETTER * len(level.text) - 6
        drawn.append(svg.Line(class_=["level-line"], x1=_LEFT, x2=end, y1=y, y2=y))
        drawn.append(_text(right, y + 4, level.text, "end", "label"))
    return drawn


def _marks(plane: _Plane, marks: Sequence[tuple[float, Mark]]) -> list[svg.Element]:
    """A dot where a threshold was crossed, a line where the quota changed. Texts that would touch are left out: all of
    them are in the list beside the chart.
    """
    drawn: list[svg.Element] = []
    heights: list[float] = []
    for day, mark in marks:
        x = plane.x(day)
        if mark.units is None:
            drawn.append(svg.Line(class_=["change"], x1=x, x2=x, y1=_TOP, y2=plane.bottom))
            anchor = "start" if x < plane.width / 2 else "end"
            drawn.append(_text(x + (5 if anchor == "start" else -5), _TOP + 2, mark.text, anchor, "label"))
            continue
        y = plane.y(mark.units)
        drawn.append(svg.Circle(class_=["crossing"], cx=x, cy=y, r=4))
        if all(abs(y - other) >= _ROOM for other in heights):
            is_left = x > _LEFT + 60  # above and left of a line that rises is room
            drawn.append(_text(x - 7 if is_left else x + 9, y - 5, mark.text, "end" if is_left else "start", "label"))
            heights.append(y)
    return drawn


def _bars(bars: Sequence[Bar], unit: str, said: str, size: Size) -> svg.SVG:
    ticks = scale(max((bar.units for bar in bars), default=0))
    plane = _Plane(size, len(bars), ticks[-1])
    step = plane.x(1) - plane.x(0)
    gap = min(step * 0.25, 6)
    drawn = _grid(plane, ticks, unit)
    every = max(-(-len(bars) * 56 // (plane.width - _LEFT)), 1)
    for number, bar in enumerate(bars):
        x, y = plane.x(number), plane.y(bar.units)
        title: list[svg.Element] = [svg.Title(text=written(f"{bar.label}: {short(bar.units, unit)}"))]
        classes = ["bar", "partial"] if bar.is_partial else ["bar"]
        box = {"x": round(x + gap / 2, 1), "y": y, "width": round(step - gap, 1), "height": round(plane.bottom - y, 1)}
        drawn.append(svg.Rect(class_=classes, elements=title, **box))  # type: ignore[arg-type]
        if number % every == 0:
            middle = min(round(x + step / 2, 1), plane.width - _HALF_A_DATE)
            drawn.append(_text(middle, plane.height - 8, bar.label, "middle", "tick"))
    return _picture("columned", plane, drawn, said)


def _grid(plane: _Plane, ticks: Sequence[int], unit: str) -> list[svg.Element]:
    drawn: list[svg.Element] = []
    for tick in ticks:
        y = plane.y(tick)
        drawn.append(svg.Line(class_=["grid"], x1=_LEFT, x2=plane.width - _RIGHT, y1=y, y2=y))
        drawn.append(_text(_LEFT - 8, y + 4, short(tick, unit), "end", "tick"))
    return drawn


def _dates(plane: _Plane, first: date, length: int) -> list[svg.Element]:
    """A text under every so many days: where a UTC day begins."""
    every = max(-(-length * 70 // (plane.width - _LEFT)), 1)
    return [
        _text(plane.x(number), plane.height - 8, f"{first + timedelta(days=number):%-d %b}", "middle", "tick")
        for number in range(0, length, every)
    ]


def _text(x: float, y: float, text: str, anchor: str, classes: str) -> svg.Text:
    return svg.Text(class_=classes.split(), x=x, y=y, text_anchor=anchor, text=written(text))  # type: ignore[arg-type]


def _picture(name: str, plane: _Plane, elements: Sequence[svg.Element], said: str) -> svg.SVG:
    """With its text alternative as the title."""
    return svg.SVG(
        class_=["chart", name],
        viewBox=svg.ViewBoxSpec(0, 0, plane.width, plane.height),
        extra={"role": "img"},
        elements=[svg.Title(text=written(said)), *elements],
    )
