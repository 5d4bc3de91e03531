from datetime import date

import duckdb

from orchestration.lake import judged
from orchestration.lake.meter_sql import judge_terms
from tests.support.builders import NOW


def test_table_without_lines_has_the_columns_of_one_with_lines() -> None:
    with duckdb.connect() as with_lines, duckdb.connect() as without:
        with_lines.execute("""
            create table lines as
            select 0::bigint as seq, 0::bigint as item, '{}' as raw, null::varchar as undecoded, 'a' as landed_file,
                'a' as origin, 1::bigint as line_number, null::timestamptz as arrived_at
        """)
        judged.judge(with_lines, {"ingested_at": NOW, "kept_from": date.min, **judge_terms(())})
        judged.judge_none(without)
        assert with_lines.execute("select reason is null from judged").fetchall() == [(False,)]
        assert without.execute("describe judged").fetchall() == with_lines.execute("describe judged").fetchall()
        assert without.execute("from judged").fetchall() == []
