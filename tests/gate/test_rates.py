"""Rates as the plans say them."""

import pytest

from headroom_gate.rates import LocalRates, Rate, per_second, seconds_until


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20", Rate(20, 1)),
        ("2.5", Rate(5, 2)),
        ("0.1", Rate(1, 10)),
        ("0.333", Rate(1, 3)),
        ("0.001", Rate(1, 60)),
        ("1000", Rate(1000, 1)),
        ("20.00", Rate(20, 1)),
    ],
)
def test_rate_of_a_number(text: str, rate: Rate) -> None:
    assert per_second(text) == rate


@pytest.mark.parametrize("text", ["0", "-1", "", "fast", "NaN"])
def test_rate_of_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        per_second(text)


def test_rate_is_of_one_account() -> None:
    rates = LocalRates()
    assert [rates.hit(name, Rate(1, 60), 1) for name in ("acme", "globex", "acme")] == [True, True, False]


@pytest.mark.parametrize(("moment", "seconds"), [(None, 1), (9.0, 1), (10.2, 1), (12.0, 2), (12.1, 3)])
def test_wait_is_in_whole_seconds_rounded_up(moment: float | None, seconds: int) -> None:
    assert seconds_until(moment, 10.0) == seconds
