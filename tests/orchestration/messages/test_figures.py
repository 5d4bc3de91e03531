"""Figures that one reads standing up: short, cut off and never rounded up; names without addresses."""

from decimal import Decimal

import pytest

from orchestration.messages.figures import change, money, one_line, percent, person, short, short_name, sums


@pytest.mark.parametrize(
    ("units", "said"),
    [
        (9_999, "9,999"),
        (10_000, "10 k"),
        (999_999, "999 k"),
        (1_000_000, "1.0 M"),
        (1_249_999, "1.24 M"),
        (1_999_999_999, "1.99 bn"),
    ],
)
def test_large_figure_is_short_and_cut_off(units: int, said: str) -> None:
    assert short(units) == said


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (3_412, "3.4"),
        (3_999, "3.9"),
        (3_000, "3"),
        (999, "0.999"),
        (10, "0.01"),
        (0, "0"),
        (9_999_999, "9,999.9"),
        (10_000_000, "10 k"),
        (1_240_000_000, "1.24 M"),
    ],
)
def test_short_figure_with_decimals_is_cut_off_to_one_and_exact_below_one(steps: int, said: str) -> None:
    assert short(steps, "0.001 GB") == said


@pytest.mark.parametrize(
    ("pct", "ci95", "said"),
    [
        ("79.96", None, "79 %"),
        ("99.96", None, "99.9 %"),
        ("99.04", None, "99 %"),
        ("100", None, "100 %"),
        ("1200.5", None, "1,200 %"),
        ("9.99", None, "9.9 %"),
        ("80", "2.18", "80 ± 2 %"),
    ],
)
def test_percentage_is_never_a_hundred_below_the_cap(pct: str, ci95: str | None, said: str) -> None:
    assert percent(Decimal(pct), Decimal(ci95) if ci95 else None) == said


def test_unknown_percentage_is_a_dash() -> None:
    assert (percent(None), change(None)) == ("–", "–")


@pytest.mark.parametrize(("pct", "said"), [("-51.9", "−51 %"), ("30", "+30 %"), ("-100", "−100 %")])
def test_change_has_its_sign(pct: str, said: str) -> None:
    assert change(Decimal(pct)) == said


@pytest.mark.parametrize(
    ("amount", "currency", "said"),
    [("450", "USD", "$450"), ("1234.5", "EUR", "€1,234.50"), ("-7", "CHF", "−7 CHF"), ("12", None, "12")],
)
def test_money_has_its_currency_and_cents_only_where_there_are_some(
    amount: str, currency: str | None, said: str
) -> None:
    assert money(Decimal(amount), currency) == said


def test_sum_does_not_mix_currencies() -> None:
    assert sums([("USD", Decimal(450)), ("EUR", Decimal(5)), ("USD", Decimal(450))]) == "+€5 and +$900"
    assert sums([]) == ""


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("dana.reyes@example.com", "Dana Reyes"),
        ("omar@example.com", "Omar"),
        ("sales-team@example.com", "Sales Team"),
        ("x7@example.com", "x7"),
        ("omar", "omar"),
        ("Key accounts", "Key accounts"),
        (" ", ""),
        (None, ""),
    ],
)
def test_owner_has_a_name_and_no_address(address: str | None, name: str) -> None:
    assert person(address) == name


@pytest.mark.parametrize("text", ["", " ", "\t\n", "\u200b", "\u202e", "\u2066 \u2069", None])
def test_text_of_which_nothing_can_be_seen_is_empty(text: str | None) -> None:
    assert one_line(text) == ""


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Acme (seats)", "Acme (seats)"),
        ("Acme Trading (seats)", "Acme T… (seats)"),
        ("Acme Trading Company", "Acme Trading C…"),
    ],
)
def test_short_name_keeps_the_meter(name: str, shown: str) -> None:
    assert short_name(name, 15) == shown
