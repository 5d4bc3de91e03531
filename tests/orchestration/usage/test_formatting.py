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
    ],
)
def test_amount_of_one_is_singular(count: int, unit: str, said: str) -> None:
    assert amount(count, unit) == said
