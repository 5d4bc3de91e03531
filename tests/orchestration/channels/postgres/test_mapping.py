"""Which rows go into which tables: what the file may say, and what a table must be like."""

import pytest

from orchestration.channels.postgres.mapping import Column, Destination, delivery_key, match, parse

MART = {"account_id": "VARCHAR", "used": "BIGINT", "pct": "DECIMAL(24,6)", "at": "TIMESTAMP"}
TEXT = Column("text", is_needed=False, is_computed=False, is_unique=False)
KEY = Column("text", is_needed=True, is_computed=False, is_unique=True)
DELIVERED = Destination("t", "threshold_crossings", is_delivered=True, columns=None)
COPIED = Destination("t", "utilization_mtd", is_delivered=False, columns=None)


def column(kind: str, is_needed: bool = False, is_computed: bool = False) -> Column:
    return Column(kind, is_needed, is_computed, is_unique=False)


def test_file_says_what_is_delivered_and_what_is_copied() -> None:
    text = """
        ["a.crossings"]
        deliver = "threshold_crossings"
        columns = { id = "delivery_key", account = "account_id" }
        [utilization]
        copy = "utilization_mtd"
    """
    assert parse(text) == [
        Destination("a.crossings", "threshold_crossings", True, {"id": "delivery_key", "account": "account_id"}),
        Destination("utilization", "utilization_mtd", False, None),
    ]


def test_file_is_understood_in_spite_of_its_mark_blanks_and_case() -> None:
    text = '\ufeff["t "]\nCopy = "utilization_mtd "\n" columns" = { " a " = "account_id " }\n'
    assert parse(text) == [Destination("t", "utilization_mtd", False, {"a": "account_id"})]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "is not TOML"),
        ('copy = "utilization_mtd"', "'copy' is not a table: name it in brackets and quotes"),
        ('[a.b]\ncopy = "utilization_mtd"', r'\["a.b"\]'),
        ('["a.b"]', "write deliver ="),
        ('["a.b"]\ncopy = 1', "write deliver ="),
        ('["a.b"]\ncopy = "daily_usage"\ndeliver = "usage_limit_hits"', "write deliver ="),
        ('["a.b"]\ndeliver = "daily_usage"', 'copy = "daily_usage"'),
        ('["a.b"]\ncopy = "daily_usage"\nkey = "x"', "'key' means nothing here"),
        ('["a.b"]\ncopy = "daily_usage"\ncolumns = ["x"]', "columns is"),
        ('["a.b"]\ncopy = "daily_usage"\ncolumns = { x = 1 }', "columns is"),
        ('["a.b"]\ncopy = "daily_usage"\ncolumns = {}', "columns is"),
        ('["a.b"]\ncopy = "daily_usage"\nCOPY = "overage"', "'copy' is there twice"),
        ('["a"]\ncopy = "daily_usage"\n["a "]\ncopy = "overage"', r'\["a"\] is there twice'),
    ],
)
def test_file_that_is_not_understood_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text)


def test_columns_of_the_same_name_match_and_the_others_are_named() -> None:
    table = {"delivery_key": KEY, "account_id": TEXT, "pct": column("numeric"), "note": TEXT}
    columns, wrong, left_out = match(DELIVERED, MART, table)
    assert columns == {name: name for name in ("account_id", "pct", "delivery_key")}
    assert (wrong, left_out) == ([], ["used", "at", "payload"])


@pytest.mark.parametrize("kind", ["numeric", "numeric(24,6)"])
def test_a_decimal_fits_without_a_scale_and_with_its_own(kind: str) -> None:
    assert match(COPIED, MART, {"pct": column(kind)})[1] == []


@pytest.mark.parametrize(
    ("columns", "table", "said"),
    [
        ({"id": "delivery_key", "x": "gone"}, {"id": KEY, "x": TEXT}, "column x: threshold_crossings has no gone; it"),
        ({"id": "delivery_key", "x": "used"}, {"id": KEY}, "column x does not exist"),
        ({"id": "delivery_key", "x": "used"}, {"id": KEY, "x": column("integer")}, "used needs bigint or numeric"),
        ({"id": "delivery_key", "x": "pct"}, {"id": KEY, "x": column("numeric(10,2)")}, "pct needs numeric or"),
        ({"id": "delivery_key", "x": "at"}, {"id": KEY, "x": TEXT}, "at needs timestamp with time zone or"),
        ({"id": "delivery_key", "x": "account_id"}, {"id": KEY, "x": column("character varying(9)")}, "needs text or"),
        ({"id": "delivery_key", "x": "account_id"}, {"id": KEY, "x": column("text", is_computed=True)}, "is computed"),
        ({"id": "delivery_key"}, {"id": KEY, "x": column("text", is_needed=True)}, "column x needs a value"),
        ({"id": "account_id"}, {"id": KEY}, "no column has the delivery_key"),
        ({"id": "delivery_key"}, {"id": TEXT}, "column id needs a unique constraint"),
    ],
)
def test_table_that_does_not_take_the_rows_is_reported_with_the_reason(
    columns: dict[str, str], table: dict[str, Column], said: str
) -> None:
    [wrong] = match(Destination("t", "threshold_crossings", True, columns), MART, table)[1]
    assert said in wrong


def test_table_without_any_column_of_the_mart_gets_no_copy() -> None:
    assert match(COPIED, MART, {"x": TEXT})[1] == ["no column has the name of one of utilization_mtd's"]


def test_delivery_key_is_of_one_length_and_another_for_each_row() -> None:
    rows = [("a", "b"), ("a,b", ""), ("a", "b\0"), ("a", "c" * 10_000)]
    keys = {delivery_key("usage_limit_hits", row) for row in rows} | {delivery_key("threshold_crossings", rows[0])}
    assert {len(key) for key in keys} == {64}
    assert len(keys) == 5


def test_delivery_key_never_changes() -> None:
    """It is in tables of others: with another one, every row would be delivered again."""
    expected = "9dd633213a080dbbdad74ad7c632f19baa61ee98352249ec126df57f1e018bd6"
    assert delivery_key("usage_limit_hits", ("source", "é\0")) == expected
