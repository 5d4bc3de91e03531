"""Geometry of the charts: zero at the bottom, the quota where it belongs, texts escaped."""

import re
from datetime import UTC, datetime

import pytest

from orchestration.pages.daily_chart import Bar, Level, Mark, bar_chart, period_chart, scale
from tests.support.builders import CHART

AT = datetime(2026, 11, 4, 12, tzinfo=UTC)


def _wide(svg: str) -> str:
    return svg[: svg.index("</svg>")]


def _points(svg: str, name: str) -> list[tuple[float, float]]:
    [found] = re.findall(rf'class="{name}" points="([^"]*)"', svg)
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in found.split())]


@pytest.mark.parametrize(
    ("largest", "ticks"), [(0, [0, 1, 2]), (3, [0, 1, 2, 3]), (7, [0, 2, 4, 6, 8]), (160, [0, 50, 100, 150, 200])]
)
def test_scale_is_round_and_holds_the_largest(largest: int, ticks: list[int]) -> None:
    assert scale(largest) == ticks


def test_period_goes_from_zero_to_now_and_then_to_the_projection() -> None:
    svg = _wide(period_chart({**CHART, "adds_up": True}, (AT, 55), [], "said"))
    used, projected, band = (_points(svg, name) for name in ("used", "projected", "band"))
    left, bottom = used[0]
    right, end = projected[-1]
    assert [round((bottom - y) / (bottom - used[-1][1]) * 55) for _, y in used] == [0, 5, 10, 40, 55]
    assert round((used[-1][0] - left) / (right - left) * 30, 1) == 3.5  # noon of the fourth day
    assert projected[0] == used[-1] == band[0]
    assert round((bottom - end) / (bottom - used[-1][1]) * 55) == 145
    assert [round((bottom - y) / (bottom - used[-1][1]) * 55) for _, y in band[1:]] == [160, 130]


def test_quota_line_and_crossings_are_at_their_units() -> None:
    crossed = Mark(datetime(2026, 11, 4, tzinfo=UTC), "40 %", 40)
    svg = _wide(period_chart({**CHART, "adds_up": True}, (AT, 55), [crossed], "said"))
    used = _points(svg, "used")
    bottom = used[0][1]
    [line] = re.findall(r'class="quota"[^>]*?y1="([\d.]+)" y2="\1"', svg) or re.findall(
        r'class="quota".*?y1="([\d.]+)"', svg
    )
    assert round((bottom - float(line)) / (bottom - used[-1][1]) * 55) == 100
    [(x, y)] = re.findall(r'class="crossing"[^>]*?cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert (float(x), float(y)) == used[3]


def test_levels_are_lines_at_their_units_but_for_the_quota() -> None:
    levels = [Level("50 %", 50), Level("100 %", 100), Level("above the picture", 10_000)]
    svg = _wide(period_chart({**CHART, "adds_up": True}, (AT, 55), [], "said", levels))
    used = _points(svg, "used")
    bottom = used[0][1]
    [height] = re.findall(r'class="level-line"[^>]*? y1="([\d.]+)"', svg)
    assert round((bottom - float(height)) / (bottom - used[-1][1]) * 55) == 50
    assert "50 %" in svg and "100 %" not in svg and "above" not in svg


def test_reading_without_forecast_begins_where_it_stands() -> None:
    chart = {**CHART, "used": [None, 31, 31], "is_forecast": False, "adds_up": False}
    svg = _wide(period_chart(chart, (AT, 50), [], "said"))
    assert "projected" not in svg and "band" not in svg
    assert _points(svg, "used")[0][1] == _points(svg, "used")[1][1]


def test_bars_have_the_height_of_their_units() -> None:
    svg = _wide(bar_chart([Bar("1 Nov", 2), Bar("2 Nov", 4, is_partial=True)], "calls", "said"))
    first, second = re.findall(r'<rect class="([^"]*)"[^>]*?height="([\d.]+)"', svg) or re.findall(
        r'<rect.*?class="([^"]*)".*?height="([\d.]+)"', svg
    )
    assert (first[0], second[0]) == ("bar", "bar partial")
    assert float(second[1]) == pytest.approx(2 * float(first[1]), abs=0.2)


def test_texts_of_charts_are_escaped() -> None:
    mark = Mark(AT, "</text><script>", None)
    svg = period_chart({**CHART, "adds_up": True}, (AT, 55), [mark], "<b>&\u202e")
    bars = bar_chart([Bar("<i>", 1)], "<u>", "<b>")
    assert not re.search(r"<script|<b>|<i>|<u>|\u202e", svg + bars)
