import pytest

from orchestration.usage.formatting import amount


@pytest.mark.parametrize(
    ("count", "unit", "said"),
    [
        (0, "calls", "0 calls"),
        (1, "calls", "1 call"),
        (1_000, "calls", "1,000 calls"),
        (1, "seats", "1 seat"),
        (1, "GB", "1 GB"),
        (2, "GB", "2 GB"),
        (1_240_000, "tokens", "1,240,000 tokens"),
        (3_412, "0.001 GB", "3.412 GB"),
        (3_400, "0.001 GB", "3.4 GB"),
        (0, "0.001 GB", "0 GB"),
        (10, "0.1 hours", "1 hour"),
        (1, "0.1 hours", "0.1 hours"),
        (-1_500, "0.001 hours", "-1.5 hours"),
        (10**15 + 1, "0.000001 GB", "1,000,000,000.000001 GB"),
        (2, "active users", "2 active users"),
    ],
)
def test_amount_is_exact_and_of_one_singular(count: int, unit: str, said: str) -> None:
    assert amount(count, unit) == said


def test_amount_of_one_has_the_meters_own_singular() -> None:
    assert amount(1, "queries", "query") == "1 query"
    assert amount(1_000, "0.001 entries", "entry") == "1 entry"
    assert amount(2, "queries", "query") == "2 queries"
