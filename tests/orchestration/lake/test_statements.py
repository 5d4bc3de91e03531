import duckdb

from orchestration.lake.statements import parsed_once


def test_statement_is_parsed_once_and_runs_on_any_connection() -> None:
    sql = "select $number + 1"
    with duckdb.connect() as first, duckdb.connect() as second:
        statement = parsed_once(first, sql)
        assert parsed_once(second, sql) is statement
        assert first.execute(statement, {"number": 1}).fetchall() == [(2,)]
        assert second.execute(statement, {"number": 2}).fetchall() == [(3,)]
        assert second.sql(statement, params={"number": 3}).fetchall() == [(4,)]
