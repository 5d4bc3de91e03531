"""What docs/meaning/definitions.md says is so: the worked example is built, and each column of utilization_mtd has a
place."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dbt_project import lakes
from tests.dbt_project.builder import PROJECT, Builder
from tests.dbt_project.lakes import Call

PAGE = PROJECT.parent / "docs" / "meaning" / "definitions.md"
NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
SEPTEMBER = date(2026, 9, 1)
PLACES = Decimal("0.00001")
"""Decimal places of the page's figures."""


def section(heading: str) -> str:
    return PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def make_calls() -> Iterator[Call]:
    """4,200 calls on a workday and 700 on a day of a weekend, one event each; 1,000 today. A call at a time where it
    matters which one it was: on Thursday 19 November.
    """
    day = SEPTEMBER
    while day < NOW.date():
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        if day == date(2026, 11, 19):
            for number in range(1, 4_201):
                yield Call("acme", noon + timedelta(seconds=number), f"call {number}")
        else:
            yield Call("acme", noon, str(day), 4_200 if day.weekday() < 5 else 700)
        day += timedelta(days=1)
    yield Call("acme", NOW - timedelta(hours=1), "today", 1_000)


def shown(value: Any) -> str:
    """A value of the mart as the page writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | Decimal):
        return f"{Decimal(value).quantize(PLACES).normalize():,f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


def test_worked_example_is_what_the_models_make_of_it(tmp_path: Path, builder: Builder) -> None:
    lakes.create(tmp_path / "lake")
    lakes.add(tmp_path / "lake", make_calls())
    lakes.add_quota(tmp_path / "lake", "acme", datetime(2026, 9, 1, tzinfo=UTC), 75_000)
    builder.build(NOW, "+utilization_mtd")
    figures = dict(re.findall(r"(?m)^\| `(\w+)` \| ([^|]+?) \|", section("A worked example")))
    [row] = builder.query(f"select {', '.join(figures)} from utilization_mtd where meter = 'api-calls'")
    assert {name: shown(value) for name, value in zip(figures, row, strict=True)} == figures
    [(crossed_at, first)] = builder.query("""
        select crossed_at, unit_of_hour from threshold_crossings
        where period_start = timestamp '2026-11-01' and threshold = '80%'
    """)
    assert str(crossed_at) == "2026-11-19 12:31:40"  # noon and 1,900 seconds: the 1,900th call
    assert first == 1_900


def test_every_column_of_utilization_mtd_has_its_question() -> None:
    [path] = PROJECT.glob("models/marts/**/utilization_mtd.yml")
    [model] = yaml.safe_load(path.read_text())["models"]
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"(?m)^\|[^|]*\|(.*)\|$", section("Columns of utilization_mtd"))))
    assert sorted(named) == sorted(column["name"] for column in model["columns"])
