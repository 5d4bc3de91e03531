"""A value counts exactly, or is refused with its reason: against Python's decimals, and for the values that hurt."""

import json
from decimal import Decimal

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestration.lake import number_sql
from orchestration.usage.meters import Refusal

TEXT, KIND = "json_extract_string(line, '$.n')", "json_type(line, '$.n')"


def judged(value: object, decimals: int) -> int | str:
    """Steps, or why the value of that JSON is refused."""
    line = value if isinstance(value, str) and value.startswith('{"n":') else json.dumps({"n": value})
    scale = str(10**decimals)
    [[reason, steps]] = duckdb.execute(
        f"select {number_sql.refusal('n', scale)}, {number_sql.steps('n', scale)}"
        f" from (select {TEXT} as n from (select $line as line))",
        {"line": line},
    ).fetchall()
    return str(reason) if reason else int(steps)


@pytest.mark.parametrize(
    ("value", "decimals", "expected"),
    [
        (0, 0, 0),
        (7, 0, 7),
        ("7", 3, 7000),
        ("007", 0, 7),
        (3.412, 3, 3412),
        ("12.5", 1, 125),
        ("12.5", 0, Refusal.TOO_MANY_PLACES),
        ("1.500", 1, 15),
        (2.0, 0, 2),
        ("0.000001", 6, 1),
        (0.1234, 3, Refusal.TOO_MANY_PLACES),
        ("0.000000000000000001", 6, Refusal.TOO_MANY_PLACES),
        (1e-7, 6, Refusal.TOO_MANY_PLACES),
        (999_999_999_999_999, 0, 999_999_999_999_999),
        (10**15, 0, 10**15),
        (10**15 + 1, 0, Refusal.TOO_LARGE),
        (10**12, 3, 10**15),
        (10**12 + 1, 3, Refusal.TOO_LARGE),
        ("1000000000000.001", 3, Refusal.TOO_LARGE),
        ("1000000000001.00001", 3, Refusal.TOO_LARGE),
        (10**30, 0, Refusal.TOO_LARGE),
        ("9" * 400, 6, Refusal.TOO_LARGE),
        ('{"n": 1e3}', 0, 1000),
        ('{"n": 1e30}', 0, Refusal.TOO_LARGE),
        ("1e3", 0, 1000),
        ("1.5E+1", 0, 15),
        ("5e-1", 0, Refusal.TOO_MANY_PLACES),
        ("1e99999", 0, Refusal.TOO_LARGE),
        ("1e", 0, Refusal.NOT_A_NUMBER),
        ("0x10", 0, Refusal.NOT_A_NUMBER),
        ("1_000", 0, Refusal.NOT_A_NUMBER),
        (-1, 0, Refusal.NEGATIVE),
        ("-0.5", 1, Refusal.NEGATIVE),
        ("--1", 0, Refusal.NOT_A_NUMBER),
        ("+1", 0, Refusal.NOT_A_NUMBER),
        (".5", 1, Refusal.NOT_A_NUMBER),
        ("5.", 1, Refusal.NOT_A_NUMBER),
        ("1,000", 0, Refusal.NOT_A_NUMBER),
        (" 1", 0, Refusal.NOT_A_NUMBER),
        ("1\n", 0, Refusal.NOT_A_NUMBER),
        ("７４", 0, Refusal.NOT_A_NUMBER),
        ("NaN", 0, Refusal.NOT_A_NUMBER),
        ('{"n": NaN}', 0, Refusal.NOT_A_NUMBER),
        ("Infinity", 0, Refusal.NOT_A_NUMBER),
        ("null", 0, Refusal.NOT_A_NUMBER),
        (True, 0, Refusal.NOT_A_NUMBER),
        ([1], 0, Refusal.NOT_A_NUMBER),
        ({"a": 1}, 0, Refusal.NOT_A_NUMBER),
        (None, 0, Refusal.NO_VALUE),
        ("", 0, Refusal.NOT_A_NUMBER),
        ('{"n": {"x": 1}, "m": 1}', 0, Refusal.NOT_A_NUMBER),
    ],
)
def test_value_is_exact_or_refused(value: object, decimals: int, expected: int | str) -> None:
    assert judged(value, decimals) == expected


def test_no_value_is_none() -> None:
    [[reason]] = duckdb.execute(
        f"select {number_sql.refusal('n', '1')} from (select json_extract_string('{{}}', '$.n') as n)"
    ).fetchall()
    assert reason == Refusal.NO_VALUE


@settings(max_examples=150, deadline=None)
@example("-10000000000000e7", 0)
@given(text=st.from_regex(r"-?[0-9]{1,18}(\.[0-9]{1,8})?(e[0-9])?", fullmatch=True), decimals=st.integers(0, 6))
def test_number_agrees_with_decimals_of_python(text: str, decimals: int) -> None:
    number = Decimal(text).scaleb(decimals)
    if number < 0:
        expected: int | str = "negative"
    elif number > 10**15:
        expected = "too large"
    elif number != int(number):
        expected = "too many places"
    else:
        expected = int(number)
    assert judged(text, decimals) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("user-1", None),
        (7, None),
        (True, None),
        ("'; drop", None),
        ("é" * 256, None),
        ("é" * 257, Refusal.TOO_LARGE),
        ("[1]", None),
        ("", Refusal.NO_VALUE),
        (None, Refusal.NO_VALUE),
        ([1], Refusal.NO_VALUE),
        ({}, Refusal.NO_VALUE),
    ],
)
def test_text_of_unique_is_any_short_one(value: object, expected: str | None) -> None:
    [[reason]] = duckdb.execute(
        f"select {number_sql.text_refusal(TEXT, KIND)} from (select $line as line)", {"line": json.dumps({"n": value})}
    ).fetchall()
    assert reason == expected
