"""A benchmark that became slower is marked beside the figure that was committed."""

from pathlib import Path

import pytest

from tests.bench import recorded
from tests.bench.measure import Row
from tests.bench.recorded import Figure

KNOWN = {"run / dbt": Figure("run / dbt", 2.0, "2026-11-29", "2 cores")}


def make_row(time_ratio: float | None, what: str = "run") -> Row:
    return Row(what, "2.00 s", "1.00 s", "", "dbt", time_ratio)


@pytest.mark.parametrize(
    ("row", "is_slower", "words"),
    [
        (make_row(2.21), True, "SLOWER: 2.00 on 2026-11-29, now +10 %"),
        (make_row(3.0), True, "SLOWER: 2.00 on 2026-11-29, now +50 %"),
        (make_row(2.18), False, "2.00 on 2026-11-29, now +9 %"),
        (make_row(1.5), False, "2.00 on 2026-11-29, now -25 %"),
        (make_row(9.0, "another"), False, ""),
        (make_row(None), False, ""),
    ],
)
def test_row_is_marked_when_it_is_slower_by_more_than_a_tenth(row: Row, is_slower: bool, words: str) -> None:
    assert recorded.is_slower(row, KNOWN) == is_slower
    assert recorded.compare(row, KNOWN) == words


def test_recorded_rows_take_the_place_of_those_before(tmp_path: Path) -> None:
    file = tmp_path / "recorded.json"
    other = Figure("other / dbt", 1.0, "2026-11-21", "2 cores")
    run = recorded.figures([make_row(1.5), make_row(None, "without a baseline")], "2026-11-30", "4 cores")
    recorded.save({**KNOWN, other.name: other, **run}, file)
    assert recorded.load(file) == {"other / dbt": other, "run / dbt": Figure("run / dbt", 1.5, "2026-11-30", "4 cores")}


def test_committed_figures_can_be_read() -> None:
    figures = recorded.load()
    assert figures
    assert all(figure.time_ratio > 0 for figure in figures.values())
